package store_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// FuzzEnvelopeDecode decodes records whose checksum is right but whose content
// is anything: an error or an envelope that survives another round.
func FuzzEnvelopeDecode(f *testing.F) {
	for _, seed := range []struct {
		stream  string
		profile *messages.ProfileEvent
		session *messages.SessionEvent
	}{
		{"p/alice", storetest.Started(7), nil},
		{"p/alice", storetest.Forgotten(), nil},
		{"p/alice", nil, nil},
		{"s/0af3", nil, storetest.Requested(7)},
		{"s/0af3", nil, storetest.Ended()},
		{"s/0af3", storetest.Started(7), storetest.Requested(7)},
	} {
		e := &messages.Envelope{
			Stream: seed.stream, Version: 3, Epoch: 1, Previous: 2, AtUnixNano: 5,
			Profile: seed.profile, Session: seed.session,
		}
		text, err := e.MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint64(9), text, true)
	}
	f.Add(uint64(0), []byte{}, false)
	f.Fuzz(func(t *testing.T, seq uint64, payload []byte, sealed bool) {
		key, record := store.JournalKey(seq), append(make([]byte, 4), payload...)
		if sealed {
			store.SealRecord(key, record)
		}
		e, err := store.DecodeRecord(key, record)
		var damage *store.DamageError
		if err != nil {
			if !errors.As(err, &damage) || damage.Sequence != seq {
				t.Fatalf("error %v, want a DamageError of record %d", err, seq)
			}
			return
		}
		text, err := e.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		record = append(make([]byte, 4), text...)
		store.SealRecord(key, record)
		again, err := store.DecodeRecord(key, record)
		if err != nil {
			t.Fatal(err)
		}
		// Not protocmp: it panics on unknown fields that only the generated
		// decoder accepts.
		if second, err := again.MarshalVT(); err != nil || !bytes.Equal(text, second) {
			t.Fatalf("encoded %x, then %x, %v", text, second, err)
		}
		_, _ = protojson.Marshal(e) // an error is fine, as Dump says so
	})
}
