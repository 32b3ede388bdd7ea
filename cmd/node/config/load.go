package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/actors"
)

// maxFile bounds the configuration file. Profiles do not belong into it.
const maxFile = 4 << 20

// loader is the state of one Load.
type loader struct {
	file     string
	config   *Config
	problems Problems
	// profileFiles are the paths of "profiles.files".
	profileFiles []string
	// registrars and xsps hold the names that profiles may use; xsps is sorted.
	registrars map[string]bool
	xsps       []string
	// handlers and remoteUses are checked when all sections are read: they
	// name what may stand further down.
	handlers   []handlerUse
	remoteUses []remoteUse
	hasRemote  bool
	// trunks are sorted by name, once they are read.
	trunks []*trunkEntry
	// inFiles are the problems of files that the section xsp names.
	inFiles []Problem
	// readable are the files that a warning names.
	readable []string
}

// Load reads the configuration and the profile files that it names. The error
// is *Problems when the files could be opened but are wrong.
func Load(path string) (*Config, error) {
	l := &loader{
		file:       path,
		registrars: map[string]bool{},
	}
	l.config = l.defaults()
	content, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	var document, second yaml.Node
	decoder := yaml.NewDecoder(content)
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
	case err != nil:
		l.problems.add(syntaxProblem(path, err))
		return nil, l.problems.err()
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		problem := Problem{File: path, Line: second.Line, What: "a second document begins", Mend: "keep one and remove the line ---"}
		if err != nil {
			problem = syntaxProblem(path, err)
		}
		l.problems.add(problem)
	}
	root := value{load: l, node: &yaml.Node{}}
	if len(document.Content) > 0 {
		root.node = document.Content[0]
	}
	l.readRoot(root)
	l.problems.sortFrom(0)
	for _, problem := range l.inFiles {
		l.problems.add(problem)
	}
	l.readProfileFiles()
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.config, nil
}

// DataDir reads only where the data folder of a configuration is. It does not
// mind other errors in the file: somebody may want to rescue a journal.
func DataDir(path string) (string, error) {
	l := &loader{file: path}
	content, err := readLimited(path)
	if err != nil {
		return "", err
	}
	var file struct {
		Node struct {
			DataDir string `yaml:"data_dir"`
		}
	}
	if err := yaml.NewDecoder(content).Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		if _, ok := errors.AsType[*yaml.TypeError](err); ok {
			return "", fmt.Errorf("%s: node.data_dir cannot be read", path)
		}
		return "", errors.New(syntaxProblem(path, err).String())
	}
	if file.Node.DataDir == "" {
		return l.defaults().Node.DataDir, nil
	}
	return l.join(file.Node.DataDir), nil
}

// defaults is the configuration of an empty file.
func (l *loader) defaults() *Config {
	return &Config{
		File:  l.file,
		Node:  Node{ID: "node-1", DataDir: l.join("data"), KeyFile: l.join("muster.key")},
		Admin: Admin{Listen: "127.0.0.1:8080"},
		Log:   Log{Level: slog.LevelInfo},
	}
}

// readLimited opens a file of a bounded size.
func readLimited(path string) (io.Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, openError(path, err)
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s: is larger than 4 MiB (profiles belong into files of their own, see profiles.files)", path)
	}
	return bytes.NewReader(content), nil
}

// openError words why a file cannot be read.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: may not be read by this user", path)
	}
	return fmt.Errorf("%s: %w", path, underlying(err))
}

// underlying strips the path that a PathError repeats.
func underlying(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

// join makes a path of the configuration relative to its folder.
func (l *loader) join(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(l.file), path)
}

func (l *loader) warn(format string, args ...any) {
	l.config.Warnings = append(l.config.Warnings, fmt.Sprintf(format, args...))
}

// registrarNames lists the configured registrars, for suggestions.
func registrarNames(registrars []actors.Registrar) []string {
	names := make([]string, len(registrars))
	for i, r := range registrars {
		names[i] = r.Name
	}
	return names
}
