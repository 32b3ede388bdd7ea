// Package admintest has a Node in memory for tests of what talks to the admin
// API. It keeps declarations and answers like a node that never sends anything.
package admintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// Node satisfies admin.Node. Its methods are safe for concurrent use; the
// exported fields are set before it is used.
type Node struct {
	// NotReady and Unhealthy are the answers of Ready and Healthy.
	NotReady, Unhealthy error
	// BrokenReload is the answer of Reload.
	BrokenReload error
	// NoXSPs is a node without any.
	NoXSPs bool
	// WriteBackup replaces the bytes that Backup writes.
	WriteBackup func(io.Writer) error
	// Block holds every Profile until something is received from it.
	Block chan struct{}
	// OnCall drives every session that is started, in a goroutine of its own;
	// nil leaves them calling.
	OnCall func(*Call)
	// OnRequest answers what is sent in a session; nil answers 200.
	OnRequest func(id string, r actors.InDialog) actors.InDialogResult
	// MaxSessions is how many may be open; 0 is no limit.
	MaxSessions int
	// WatchBuffer is how many changes a watcher may be behind; 0 means 256.
	WatchBuffer int

	mu       sync.Mutex
	profiles map[string]actors.ProfileView
	secrets  map[string]messages.Secret
	sessions map[string]*Call
	watchers map[chan actors.Change]actors.ChangeQuery
	stopped  bool
}

// New makes an empty node that knows the registrar "acme".
func New() *Node {
	return &Node{
		profiles: map[string]actors.ProfileView{}, secrets: map[string]messages.Secret{},
		sessions: map[string]*Call{}, watchers: map[chan actors.Change]actors.ChangeQuery{},
	}
}

// Password is the password that the node was given for a profile.
func (n *Node) Password(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.secrets[id].Reveal()
}

// Put adds or replaces a profile, whatever its declaration says.
func (n *Node) Put(d actors.Declaration) actors.ProfileView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.put(d)
}

// Profile implements admin.Node.
func (n *Node) Profile(ctx context.Context, id string) (actors.ProfileView, error) {
	if n.Block != nil {
		select {
		case <-n.Block:
		case <-ctx.Done():
			return actors.ProfileView{}, ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.profiles[id]
	if !ok {
		return v, fmt.Errorf("profile %q: %w", id, actors.ErrNotFound)
	}
	return v, nil
}

// Profiles implements admin.Node.
func (n *Node) Profiles(_ context.Context, q actors.Query) (actors.Page, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var page actors.Page
	for _, id := range slices.Sorted(maps.Keys(n.profiles)) {
		v := n.profiles[id]
		if id <= q.After || q.State != "" && v.State != q.State || q.Registrar != "" && v.Registrar != q.Registrar || !strings.Contains(id+v.AOR, q.Text) {
			continue
		}
		if len(page.Profiles) == q.Limit {
			page.Next = page.Profiles[q.Limit-1].ID
			break
		}
		page.Profiles = append(page.Profiles, v)
	}
	return page, nil
}

// AddProfile implements admin.Node.
func (n *Node) AddProfile(_ context.Context, d actors.Declaration) (actors.ProfileView, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, taken := n.profiles[d.ID]; taken {
		return actors.ProfileView{}, fmt.Errorf("profile %q: %w", d.ID, actors.ErrExists)
	}
	if d.Registrar != "acme" {
		return actors.ProfileView{}, fmt.Errorf("%w: unknown registrar %q", actors.ErrInvalid, d.Registrar)
	}
	if err := errors.Join(known("registration_handler", d.RegistrationHandler), known("session_handler", d.SessionHandler)); err != nil {
		return actors.ProfileView{}, err
	}
	return n.put(d), nil
}

// known tells whether the node has the handlers of a chain.
func known(field, text string) error {
	for name := range strings.SplitSeq(text, ">") {
		if !slices.Contains([]string{"", "digest", "sim", "token-service"}, name) {
			return fmt.Errorf("%w: %s: unknown handler %q (known are digest, sim, token-service)", actors.ErrInvalid, field, name)
		}
	}
	return nil
}

// effective is who answers when a profile names nobody: the default of acme.
func effective(handler string) string {
	if handler == "" {
		return "digest"
	}
	return handler
}

func (n *Node) put(d actors.Declaration) actors.ProfileView {
	v := actors.ProfileView{
		ID: d.ID, AOR: d.AOR, Registrar: d.Registrar, State: actors.StateRegistering, Enabled: !d.Disabled, Register: !d.NoRegister,
		RegistrationHandler: effective(d.RegistrationHandler), SessionHandler: effective(d.SessionHandler), Username: d.Username,
		ContactUser: d.ContactUser, Expires: int(d.Expires / time.Second), Source: "api",
	}
	n.profiles[d.ID] = v
	n.secrets[d.ID] = d.Password
	return v
}

// ImportProfiles implements admin.Node.
func (n *Node) ImportProfiles(_ context.Context, ds []actors.Declaration, dryRun bool) []actors.ImportResult {
	n.mu.Lock()
	defer n.mu.Unlock()
	results := make([]actors.ImportResult, len(ds))
	for i, d := range ds {
		results[i] = actors.ImportResult{ID: d.ID, Result: actors.ResultAdded}
		if _, taken := n.profiles[d.ID]; taken {
			results[i].Result = actors.ResultUnchanged
		}
		if d.Registrar != "acme" {
			results[i] = actors.ImportResult{ID: d.ID, Result: actors.ResultInvalid, Error: fmt.Sprintf("registrar: %q is not configured", d.Registrar)}
			continue
		}
		if !dryRun {
			n.put(d)
		}
	}
	return results
}

func (n *Node) change(id string, f func(*actors.ProfileView)) (actors.ProfileView, error) {
	v, err := n.Profile(context.Background(), id)
	if err != nil {
		return v, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&v)
	n.profiles[id] = v
	return v, nil
}

// ChangeProfile implements admin.Node.
func (n *Node) ChangeProfile(_ context.Context, id string, p actors.Patch) (actors.ProfileView, error) {
	return n.change(id, func(v *actors.ProfileView) {
		for from, to := range map[*string]*string{
			p.AOR: &v.AOR, p.Registrar: &v.Registrar, p.Username: &v.Username,
		} {
			if from != nil {
				*to = *from
			}
		}
		secure(v, p.RegistrationHandler, p.SessionHandler)
	})
}

func secure(v *actors.ProfileView, registration, session *string) {
	if registration != nil {
		v.RegistrationHandler = effective(*registration)
	}
	if session != nil {
		v.SessionHandler = effective(*session)
	}
}

// SetSecurity implements admin.Node.
func (n *Node) SetSecurity(_ context.Context, id string, registration, session *string) (actors.ProfileView, error) {
	for field, text := range map[string]*string{"registration_handler": registration, "session_handler": session} {
		if text == nil {
			continue
		}
		if err := known(field, *text); err != nil {
			return actors.ProfileView{}, err
		}
	}
	return n.change(id, func(v *actors.ProfileView) { secure(v, registration, session) })
}

// RemoveProfile implements admin.Node.
func (n *Node) RemoveProfile(ctx context.Context, id string) error {
	if _, err := n.Profile(ctx, id); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.profiles, id)
	return nil
}

// EnableProfile implements admin.Node.
func (n *Node) EnableProfile(_ context.Context, id string) (actors.ProfileView, error) {
	return n.change(id, func(v *actors.ProfileView) { v.Enabled = true })
}

// DisableProfile implements admin.Node.
func (n *Node) DisableProfile(_ context.Context, id string) (actors.ProfileView, error) {
	return n.change(id, func(v *actors.ProfileView) { v.Enabled, v.State = false, actors.StateDisabled })
}

// RefreshProfile implements admin.Node.
func (n *Node) RefreshProfile(_ context.Context, id string) (actors.ProfileView, error) {
	return n.change(id, func(v *actors.ProfileView) { v.Attempt++ })
}

// FetchBindings implements admin.Node.
func (n *Node) FetchBindings(ctx context.Context, id string) ([]messages.ContactBinding, error) {
	v, err := n.Profile(ctx, id)
	if err != nil {
		return nil, err
	}
	if v.State == actors.StateBackoff {
		return nil, errors.New("the registrar did not answer")
	}
	return []messages.ContactBinding{{URI: "sip:alice@127.0.0.1:5070", Expires: 3000}}, nil
}

// History implements admin.Node.
func (n *Node) History(ctx context.Context, id string, before uint64, limit int) ([]actors.HistoryEntry, error) {
	if _, err := n.Profile(ctx, id); err != nil {
		return nil, err
	}
	if before == 0 {
		before = 6
	}
	var events []actors.HistoryEntry
	for version := before - 1; version > 0 && len(events) < limit; version-- {
		events = append(events, actors.HistoryEntry{Version: version, At: time.Unix(int64(version), 0).UTC(), Type: "AttemptStarted", Text: fmt.Sprintf("attempt %d", version)})
	}
	return events, nil
}

// Registrars implements admin.Node.
func (n *Node) Registrars(context.Context) ([]actors.RegistrarView, error) {
	return []actors.RegistrarView{{
		Name: "acme", URI: "sip:127.0.0.1", Profiles: map[string]int{"registered": 1}, State: "up",
		RegistrationHandler: "token-service>digest", SessionHandler: "digest",
		Answers: map[string]actors.AnswersView{
			"digest":        {Answered: 7, MeanMS: 0.04},
			"token-service": {Answered: 2, Refused: 7, Failed: 1, MeanMS: 12.5},
		},
	}}, nil
}

// XSPs implements admin.Node.
func (n *Node) XSPs(context.Context) ([]actors.XSPView, error) {
	if n.NoXSPs {
		return nil, nil
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	return []actors.XSPView{
		{Name: "sim", Kind: "aka", State: "up", Concurrency: 100},
		{
			Name: "token-service", Kind: "webhook", State: "down", Waiting: 3, InFlight: 1, Concurrency: 100,
			Answered: 2, Refused: 7, Failed: 1, MeanMS: 12.5, LastAnswer: &at, LastError: "no answer within 3s",
		},
	}, nil
}

// Ready implements admin.Node.
func (n *Node) Ready() error { return n.NotReady }

// Healthy implements admin.Node.
func (n *Node) Healthy() error { return n.Unhealthy }

// Reload implements admin.Node.
func (n *Node) Reload(context.Context) error { return n.BrokenReload }

// Backup implements admin.Node.
func (n *Node) Backup(w io.Writer) error {
	if n.WriteBackup != nil {
		return n.WriteBackup(w)
	}
	_, err := io.WriteString(w, "journal")
	return err
}
