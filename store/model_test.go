package store_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// listFold has a state that a model can tell: the numbers of the events since
// the stream began, as text.
func listFold(_ string, state []byte, events []*messages.Envelope) ([]byte, error) {
	for _, e := range events {
		number := storetest.Number(e)
		if number == storetest.End {
			state = nil
			continue
		}
		state = fmt.Appendf(slices.Clip(state), "%d ", number)
	}
	return state, nil
}

// modelStreams are of both kinds, some with the same id.
var modelStreams = []string{"p/0", "p/1", "p/2", "s/0", "s/1", "s/2"}

// modelStream is what a stream should be.
type modelStream struct {
	version uint64
	state   string   // empty: it has ended, or never began
	numbers []uint64 // of the events of all versions
}

// machine runs a store beside its model.
type machine struct {
	t       *rapid.T
	opts    store.Options
	s       *store.Store
	streams map[string]*modelStream
	number  uint64
}

func TestAStoreIsItsModel(t *testing.T) {
	parent := memoryDir(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(parent, "model") //nolint:usetesting // one for each check
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{t: t, opts: options(dir), streams: make(map[string]*modelStream)}
		m.opts.Fold = listFold
		m.opts.Retention = store.Retention{Count: rapid.IntRange(1, 30).Draw(t, "retention"), Age: -1}
		for _, name := range modelStreams {
			m.streams[name] = &modelStream{}
		}
		if rapid.Bool().Draw(t, "live") {
			m.opts.Live = m.live
		}
		m.open()
		defer func() { m.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append":     m.append,
			"end":        m.end,
			"conflict":   m.conflict,
			"checkpoint": func(*rapid.T) { m.must(m.s.Checkpoint(t.Context())) },
			"restart":    m.restart,
			"old file":   m.oldFile,
			"load":       m.load,
			"history":    m.history,
			"replay":     m.replay,
		})
		m.restart(t)
		m.replay(t)
		for name := range m.streams {
			m.loadStream(name)
		}
	})
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) open() {
	var err error
	m.s, err = store.Open(m.opts)
	m.must(err)
}

// live knows every other stream.
func (m *machine) live(stream string) ([]byte, uint64, bool) {
	model := m.streams[stream]
	if model.state == "" {
		return nil, model.version, stream < "s/"
	}
	return []byte(model.state), model.version, stream < "s/"
}

func (m *machine) draw(t *rapid.T) (string, *modelStream) {
	name := rapid.SampledFrom(modelStreams).Draw(t, "stream")
	return name, m.streams[name]
}

func (m *machine) append(t *rapid.T) {
	name, model := m.draw(t)
	m.loadStream(name) // an owner loads a stream before it appends
	first := len(model.numbers)
	for range rapid.IntRange(1, 6).Draw(t, "events") {
		m.number++
		model.state += fmt.Sprintf("%d ", m.number)
		model.numbers = append(model.numbers, m.number)
	}
	added := model.numbers[first:]
	m.must(storetest.Append(t.Context(), m.s, name, model.version, storetest.At(0), added...))
	model.version += uint64(len(added))
}

func (m *machine) end(t *rapid.T) {
	name, model := m.draw(t)
	if model.state == "" {
		return
	}
	m.must(storetest.Append(t.Context(), m.s, name, model.version, storetest.At(0), storetest.End))
	model.version++
	model.state = ""
	model.numbers = append(model.numbers, storetest.End)
}

func (m *machine) conflict(t *rapid.T) {
	name, model := m.draw(t)
	wrong := rapid.Uint64Range(1, 40).Draw(t, "wrong")
	if wrong == model.version {
		return
	}
	if err := storetest.Append(t.Context(), m.s, name, wrong, storetest.At(0), 1); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("append to %s after %d, which is at %d: %v", name, wrong, model.version, err)
	}
}

func (m *machine) restart(*rapid.T) {
	m.must(m.s.Close())
	report, err := store.Verify(m.opts.Dir + "/journal.db")
	m.must(err)
	if !report.OK() {
		m.t.Fatalf("Verify: %v", report.Findings)
	}
	m.open()
}

// oldFile makes the file one that an earlier release wrote.
func (m *machine) oldFile(*rapid.T) {
	m.must(m.s.Close())
	db, err := bolt.Open(journalFile(m.opts.Dir), 0o600, nil)
	m.must(err)
	m.must(errors.Join(db.Update(store.SplitBlocks), db.Close()))
	m.open()
}

func (m *machine) load(t *rapid.T) {
	name, _ := m.draw(t)
	m.loadStream(name)
}

// loadStream compares one stream, and learns whether it was buried.
func (m *machine) loadStream(name string) {
	state, version, events, err := m.s.Load(m.t.Context(), name)
	m.must(err)
	state, _ = listFold(name, state, events)
	version += uint64(len(events))
	model := m.streams[name]
	if version == 0 && model.state == "" {
		*model = modelStream{}
	}
	if version != model.version || string(state) != model.state {
		m.t.Fatalf("%s is %q at version %d, should be %q at version %d", name, state, version, model.state, model.version)
	}
}

func (m *machine) history(t *rapid.T) {
	name, model := m.draw(t)
	m.loadStream(name)
	version := model.version
	m.must(m.s.History(t.Context(), name, 0, func(e *messages.Envelope) bool {
		if e.Version != version || storetest.Number(e) != model.numbers[version-1] {
			t.Fatalf("history of %s has %v, should have version %d of %v", name, e, version, model.numbers)
		}
		version--
		return true
	}))
}

func (m *machine) replay(*rapid.T) {
	r := &listReplayer{states: make(map[string]string)}
	m.must(m.s.Replay(m.t.Context(), r))
	for name, model := range m.streams {
		if got := strings.TrimSpace(r.states[name]); got != strings.TrimSpace(model.state) {
			m.t.Fatalf("%s was replayed as %q, should be %q", name, got, model.state)
		}
	}
}

type listReplayer struct{ states map[string]string }

func (r *listReplayer) Snapshot(stream string, _ uint64, state []byte) error {
	r.states[stream] = string(state)
	return nil
}

func (r *listReplayer) Event(e *messages.Envelope) error {
	state, err := listFold(e.Stream, []byte(r.states[e.Stream]), []*messages.Envelope{e})
	r.states[e.Stream] = string(state)
	return err
}
