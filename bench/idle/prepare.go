package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

func profileID(i int) string { return fmt.Sprintf("user-%07d", i) }

// prepare writes the streams of profiles that were declared and registered, by
// the core itself, and a checkpoint. Their bindings end evenly from lead after
// now until the expiry.
func prepare(ctx context.Context, o options, data string, now time.Time) error {
	s, err := store.Open(store.Options{Dir: data, Fold: func(_ string, state []byte, events []*messages.Envelope) ([]byte, error) {
		return profile.Fold(state, events)
	}, CheckpointEvery: -1})
	if err != nil {
		return err
	}
	const writers = 256 // enough to share commits
	var next atomic.Int64
	var wait sync.WaitGroup
	failed := make(chan error, writers)
	for range writers {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= o.profiles {
					return
				}
				events := registered(o, i, now)
				if err := s.Append(ctx, "p/"+profileID(i), 0, now, events...); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wait.Wait()
	close(failed)
	return errors.Join(<-failed, s.Checkpoint(ctx), s.Close())
}

// registered is what the journal has of a profile that was declared by a file,
// challenged once and granted a binding.
func registered(o options, i int, now time.Time) []*messages.ProfileEvent {
	const margin = 32 * time.Second // how long before its end a binding is refreshed at the latest
	id := profileID(i)
	spread := o.expires - margin - o.lead
	refresh := now.Add(o.lead + time.Duration(float64(spread)*float64(i)/float64(o.profiles)))
	granted := refresh.Add(margin - o.expires)
	token := sha256.Sum256([]byte(id))
	var state profile.State
	var events []*messages.ProfileEvent
	step := func(c profile.Command) {
		d := profile.Decide(profile.Policy{Expires: o.expires}, state, profile.Input{
			Now: granted, Jitter: 1, Token: hex.EncodeToString(token[:16]), Command: c,
		})
		for _, e := range d.Events {
			state = profile.Apply(state, e)
		}
		events = append(events, d.Events...)
	}
	aor := "sip:" + id + "@example.test"
	step(profile.Declare{Spec: profile.Spec{AOR: aor, Registrar: "r", Register: true}, Source: "file", Row: row(aor)})
	step(profile.SlotGranted{})
	step(profile.ResponseReceived{Attempt: state.Attempt.Number, Response: &messages.SIPResponse{
		Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{{
			Space: messages.Space_ORIGIN, Raw: `Digest realm="example.test", nonce="` + hex.EncodeToString(token[16:]) + `"`,
		}},
	}})
	step(profile.CredentialsOffered{Attempt: state.Attempt.Number, Handler: "digest"})
	step(profile.ResponseReceived{Attempt: state.Attempt.Number, Response: &messages.SIPResponse{
		Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: uint32(o.expires / time.Second),
	}})
	return events
}

// row is the hash by which the node knows an unchanged row again (rowOf of
// package muster); where it differs, the node says ProfileChanged.
func row(aor string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %d %q %q %t %t", aor, "r", "", "", 0, "digest", "digest", false, false)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// schedule gathers when profiles are due.
type schedule struct{ due []int64 } // Unix seconds

// Snapshot implements store.Replayer.
func (s *schedule) Snapshot(stream string, _ uint64, b []byte) error {
	state, err := profile.Unmarshal(b)
	if err == nil && strings.HasPrefix(stream, "p/") {
		if _, at, ok := state.Due(); ok {
			s.due = append(s.due, at.Unix())
		}
	}
	return err
}

// Event implements store.Replayer.
func (s *schedule) Event(*messages.Envelope) error { return nil }

// reportSchedule prints how evenly the refreshes are spread, as the last
// checkpoint has them. The windows at both ends are left out.
func reportSchedule(ctx context.Context, data string) error {
	s, err := store.Open(store.Options{Dir: data, CheckpointEvery: -1})
	if err != nil {
		return err
	}
	defer s.Close()
	var all schedule
	if err := s.Replay(ctx, &all); err != nil || len(all.due) == 0 {
		return err
	}
	const window = 10
	first, last := slices.Min(all.due)/window+1, slices.Max(all.due)/window
	if last <= first {
		return nil
	}
	windows := make([]int, last-first)
	for _, at := range all.due {
		if i := at/window - first; i >= 0 && i < int64(len(windows)) {
			windows[i]++
		}
	}
	sum := 0
	for _, n := range windows {
		sum += n
	}
	mean := float64(sum) / float64(len(windows))
	fmt.Printf("%-32s %.0f in 10 s, at most %d, which is %.2f times the mean\n", "refreshes that are planned", mean, slices.Max(windows), float64(slices.Max(windows))/mean)
	return nil
}
