package store

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/messages"
)

// dumpLine is one line of a dump.
type dumpLine struct {
	Sequence uint64          `json:"seq"`
	Envelope json.RawMessage `json:"envelope,omitempty"`
	Damage   string          `json:"damage,omitempty"`
}

// Dump writes the journal of a file that no node is running on, or of a copy,
// as one JSON object a line: {"seq":1,"envelope":{...}}, the envelope as
// protojson. keep, unless it is nil, chooses. A damaged record becomes a line
// with "damage" instead of "envelope", and everything that can be read is
// written before the error that says so is returned.
func Dump(path string, w io.Writer, keep func(seq uint64, e *messages.Envelope) bool) error {
	f, err := openShared(path)
	if err != nil {
		return err
	}
	defer f.Close()
	pages, err := openPages(f)
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	out := bufio.NewWriter(w)
	var writeErr, damage error
	pages.walk(bucketJournal, func(_ string, key, value []byte) {
		var b block
		damage = cmp.Or(damage, b.open(key, value))
		for b.left > 0 && writeErr == nil {
			line, wanted, err := dumpRecord(&b, keep)
			damage = cmp.Or(damage, err)
			if wanted {
				_, writeErr = out.Write(append(line, '\n'))
			}
		}
	})
	if writeErr = errors.Join(writeErr, out.Flush()); writeErr != nil {
		return fmt.Errorf("dump: %w", writeErr)
	}
	if damage == nil && len(pages.findings) > 0 {
		damage = &DamageError{Reason: pages.findings[0]}
	}
	if damage == nil && pages.badHead != "" {
		damage = &DamageError{Reason: pages.badHead}
	}
	return damage
}

// dumpRecord reads the next record of a block, or says that the rest is lost.
func dumpRecord(b *block, keep func(uint64, *messages.Envelope) bool) (line []byte, wanted bool, err error) {
	seq := b.sequence
	var e *messages.Envelope
	key, record, damage := b.next()
	if damage == nil {
		e, damage = decodeEnvelope(key, record)
	}
	if damage != nil {
		line, err := json.Marshal(dumpLine{Sequence: seq, Damage: damage.Error()})
		return line, true, errors.Join(damage, err)
	}
	if keep != nil && !keep(seq, e) {
		return nil, false, nil
	}
	text, err := protojson.Marshal(e)
	if err != nil {
		return nil, false, fmt.Errorf("record %d: %w", seq, err)
	}
	// protojson varies its white space from build to build on purpose.
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, false, fmt.Errorf("record %d: %w", seq, err)
	}
	line, err = json.Marshal(dumpLine{Sequence: seq, Envelope: compact.Bytes()})
	return line, true, err
}
