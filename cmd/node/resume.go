package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// resumeState is the file FILE.progress of an import: how far it came, and of
// which file. It holds nothing that stands in the file, which has passwords.
type resumeState struct {
	path     string
	identity string
}

// progressFile is its content.
type progressFile struct {
	// File is a hash of the name, size and modification time of the file.
	File string `json:"file"`
	// Line is the last line that the node acknowledged.
	Line int `json:"line"`
}

func newResumeState(file string) (*resumeState, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d", filepath.Base(file), info.Size(), info.ModTime().UnixNano()))
	return &resumeState{path: file + ".progress", identity: hex.EncodeToString(sum[:])}, nil
}

// load returns the line after which to go on, 0 when there is nothing to
// resume.
func (r *resumeState) load() (int, error) {
	content, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var p progressFile
	if err := json.Unmarshal(content, &p); err != nil {
		return 0, fmt.Errorf("%s is not a progress file (remove it and import without --resume)", r.path)
	}
	if p.File != r.identity {
		return 0, fmt.Errorf("the file has changed since %s was written, so its lines may have moved (import without --resume; what is there already stays unchanged)", r.path)
	}
	return p.Line, nil
}

// save replaces the file in one step.
func (r *resumeState) save(line int) error {
	content, err := json.Marshal(progressFile{File: r.identity, Line: line})
	if err != nil {
		return err
	}
	temp := r.path + ".new"
	if err := os.WriteFile(temp, append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, r.path)
}

func (r *resumeState) remove() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
