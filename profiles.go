package muster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// The sources of a declaration.
const (
	sourceFile = "file"
	sourceAPI  = "api"
)

// errNoReload is for a node that an embedder built.
var errNoReload = errors.New("this node was started without a configuration to reload")

func (n *Node) setRegistrars(rs []actors.Registrar) {
	names := map[string]bool{}
	for _, r := range rs {
		names[r.Name] = true
	}
	n.registrars.Store(&names)
}

func (n *Node) knowsRegistrar(name string) bool { return (*n.registrars.Load())[name] }

// check normalises and validates a declaration.
func (n *Node) check(d actors.Declaration) (actors.Declaration, error) {
	d = normalised(d)
	return d, validateDeclaration(d, n.knowsRegistrar)
}

// Profile returns one profile.
func (n *Node) Profile(ctx context.Context, id string) (actors.ProfileView, error) {
	return n.farm.Profile(ctx, id)
}

// Profiles returns a page of profiles.
func (n *Node) Profiles(ctx context.Context, q actors.Query) (actors.Page, error) {
	return n.farm.Profiles(ctx, q)
}

// AddProfile adds a profile; it survives restarts. Its secret is sealed in the
// store.
func (n *Node) AddProfile(ctx context.Context, d actors.Declaration) (actors.ProfileView, error) {
	d, err := n.check(d)
	if err != nil {
		return actors.ProfileView{}, err
	}
	if _, err := n.farm.Profile(ctx, d.ID); err == nil {
		return actors.ProfileView{}, fmt.Errorf("%w: %s", actors.ErrExists, d.ID)
	} else if !errors.Is(err, actors.ErrNotFound) {
		return actors.ProfileView{}, err
	}
	if _, err := n.keepSecrets(ctx, []actors.Declaration{d}, false); err != nil {
		return actors.ProfileView{}, err
	}
	return n.farm.Do(ctx, d.ID, declare(d, sourceAPI, false))
}

// ImportProfiles adds or changes many profiles at once and returns what became
// of each, in order. With dryRun nothing changes.
func (n *Node) ImportProfiles(ctx context.Context, ds []actors.Declaration, dryRun bool) []actors.ImportResult {
	results := make([]actors.ImportResult, len(ds))
	var accepted []actors.Declaration
	var places []int
	seen := map[string]bool{}
	for i, d := range ds {
		d, err := n.check(d)
		if err == nil && seen[d.ID] {
			err = fmt.Errorf("%w: profile %q stands twice in the import", actors.ErrInvalid, d.ID)
		}
		seen[d.ID] = true
		if err != nil {
			results[i] = actors.ImportResult{ID: d.ID, Result: actors.ResultInvalid, Error: err.Error()}
			continue
		}
		accepted, places = append(accepted, d), append(places, i)
	}
	changed, err := n.keepSecrets(ctx, accepted, dryRun)
	if err != nil {
		for i, d := range accepted {
			results[places[i]] = actors.ImportResult{ID: d.ID, Result: actors.ResultInvalid, Error: err.Error()}
		}
		return results
	}
	declared := make([]actors.Declared, len(accepted))
	for i, d := range accepted {
		declared[i] = actors.Declared{ID: d.ID, Command: declare(d, sourceAPI, changed[i])}
	}
	for i, r := range n.farm.Declare(ctx, declared, dryRun) {
		results[places[i]] = r
	}
	return results
}

// keepSecrets seals the secrets of profiles before the profiles know of them,
// so that no crash leaves one without. It tells which differ from what was
// known; with dry nothing is kept.
func (n *Node) keepSecrets(ctx context.Context, ds []actors.Declaration, dry bool) (changed []bool, err error) {
	changed = make([]bool, len(ds))
	sealed := map[string][]byte{}
	for i, d := range ds {
		next := credentialOf(d)
		old, _ := n.credentials.Credential(d.ID)
		changed[i] = old != next
		if !changed[i] || next.Password.Empty() && next.HA1.Empty() {
			continue
		}
		if sealed[d.ID], err = encodeCredential(next); err != nil {
			return nil, fmt.Errorf("seal the secret of %s: %w", d.ID, err)
		}
	}
	if dry {
		return changed, nil
	}
	if len(sealed) > 0 {
		if err := n.store.PutSecrets(ctx, sealed); err != nil {
			return nil, fmt.Errorf("seal secrets: %w", err)
		}
	}
	for _, d := range ds {
		n.credentials.set(d.ID, credentialOf(d))
	}
	return changed, nil
}

// ChangeProfile changes some fields of a profile. The change of a profile that
// a file declares lasts until its row changes.
func (n *Node) ChangeProfile(ctx context.Context, id string, p actors.Patch) (actors.ProfileView, error) {
	s, _, err := n.farm.State(ctx, id)
	if err != nil {
		return actors.ProfileView{}, err
	}
	if p.AOR != nil && *p.AOR != s.Spec.AOR || p.Registrar != nil && *p.Registrar != s.Spec.Registrar {
		return actors.ProfileView{}, fmt.Errorf("%w: profile %q: aor and registrar identify the binding; remove the profile and add it again",
			actors.ErrInvalid, id)
	}
	c, _ := n.credentials.Credential(id)
	d, err := n.check(patched(id, s, c, p))
	if err != nil {
		return actors.ProfileView{}, err
	}
	changed, err := n.keepSecrets(ctx, []actors.Declaration{d}, false)
	if err != nil {
		return actors.ProfileView{}, err
	}
	command := declare(d, s.Source, changed[0])
	// The row stays, so that the unchanged file does not undo the change; the
	// marked source makes the core look at the fields.
	command.Row, command.Patch = s.Row, true
	return n.farm.Do(ctx, id, command)
}

func patched(id string, s profile.State, c actors.Credential, p actors.Patch) actors.Declaration {
	d := actors.Declaration{
		ID: id, AOR: s.Spec.AOR, Registrar: s.Spec.Registrar, Username: s.Spec.Username,
		Password: c.Password, HA1: c.HA1, ContactUser: s.Spec.ContactUser, Expires: s.Spec.Expires,
		RegistrationHandler: s.Spec.RegistrationHandler, SessionHandler: s.Spec.SessionHandler,
		NoRegister: !s.Spec.Register, Disabled: s.Disabled,
	}
	set(&d.Username, p.Username)
	set(&d.ContactUser, p.ContactUser)
	set(&d.Expires, p.Expires)
	set(&d.RegistrationHandler, p.RegistrationHandler)
	set(&d.SessionHandler, p.SessionHandler)
	if p.Password != nil {
		d.Password, d.HA1 = *p.Password, messages.Secret{}
	}
	if p.HA1 != nil {
		d.HA1 = *p.HA1
		if p.Password == nil {
			d.Password = messages.Secret{}
		}
	}
	if p.Register != nil {
		d.NoRegister = !*p.Register
	}
	if p.Enabled != nil {
		d.Disabled = !*p.Enabled
	}
	return d
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// RemoveProfile withdraws the binding and forgets the profile. It returns when
// that is recorded; the withdrawal goes on.
func (n *Node) RemoveProfile(ctx context.Context, id string) error {
	_, err := n.farm.Do(ctx, id, profile.Remove{ByOperator: true})
	return err
}

// EnableProfile lets a disabled profile register again.
func (n *Node) EnableProfile(ctx context.Context, id string) (actors.ProfileView, error) {
	return n.farm.Do(ctx, id, profile.Enable{})
}

// DisableProfile withdraws the binding and keeps the profile.
func (n *Node) DisableProfile(ctx context.Context, id string) (actors.ProfileView, error) {
	return n.farm.Do(ctx, id, profile.Disable{})
}

// RefreshProfile asks for an attempt now, also for a rejected profile.
func (n *Node) RefreshProfile(ctx context.Context, id string) (actors.ProfileView, error) {
	return n.farm.Do(ctx, id, profile.Refresh{})
}

// FetchBindings asks the registrar which contacts it holds for the profile.
func (n *Node) FetchBindings(ctx context.Context, id string) ([]messages.ContactBinding, error) {
	return n.farm.Fetch(ctx, id)
}

// History returns a profile's events, newest first.
func (n *Node) History(ctx context.Context, id string, before uint64, limit int) ([]actors.HistoryEntry, error) {
	return n.farm.History(ctx, id, before, limit)
}

// Registrars returns the targets.
func (n *Node) Registrars(ctx context.Context) ([]actors.RegistrarView, error) {
	return n.farm.Registrars(ctx)
}

// Reload reads the configuration again and applies what changed. On an error
// everything stays as it was.
func (n *Node) Reload(ctx context.Context) error {
	if n.options.Load == nil {
		return errNoReload
	}
	desired, err := n.options.Load(ctx)
	if err == nil {
		err = n.Apply(ctx, desired)
	}
	n.metrics.Reloaded(err == nil, time.Now())
	if err != nil {
		n.log.Error("reload failed, nothing changed", "error", err)
		return err
	}
	n.log.Info("reloaded")
	return nil
}

// applyBatch is how many declarations are on their way at once: enough to
// share commits, few enough to bound memory.
const applyBatch = 5000

// Apply makes the farm keep what is desired. Profiles whose declaration did
// not change keep Call-ID, CSeq and binding; those that are not declared any
// more are de-registered, unless they came through the API.
func (n *Node) Apply(ctx context.Context, desired Desired) error {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	if err := errors.Join(desired.validate()...); err != nil {
		return err
	}
	if err := n.registrarsInUse(ctx, desired); err != nil {
		return err
	}
	n.setRegistrars(desired.Registrars)
	n.metrics.SetRegistrars(namesOf(desired.Registrars))
	n.farm.SetRegistrars(desired.Registrars)

	listed := make(map[string]bool, len(desired.Profiles))
	var again []actors.Declared
	for batch := range slices.Chunk(desired.Profiles, applyBatch) {
		declared := make([]actors.Declared, len(batch))
		for i, d := range batch {
			d = normalised(d)
			listed[d.ID] = true
			changed := n.credentials.set(d.ID, credentialOf(d)) && n.ready.Load()
			declared[i] = actors.Declared{ID: d.ID, Command: declare(d, sourceFile, changed)}
		}
		again = append(again, n.declareAll(ctx, declared)...)
	}
	if err := n.dropUnlisted(ctx, listed); err != nil {
		return err
	}
	if len(again) > 0 {
		n.beside.Go(func() { n.declareLater(again) })
	}
	return ctx.Err()
}

// registrarsInUse refuses to drop a registrar that profiles of the API need.
func (n *Node) registrarsInUse(ctx context.Context, desired Desired) error {
	names := map[string]bool{}
	for _, r := range desired.Registrars {
		names[r.Name] = true
	}
	orphans := map[string]int{}
	err := n.farm.Declarations(ctx, func(_ string, s profile.State) {
		if s.Exists() && s.Source == sourceAPI && !names[s.Spec.Registrar] {
			orphans[s.Spec.Registrar]++
		}
	})
	if err != nil {
		return err
	}
	var errs []error
	for name, count := range orphans {
		if n.ready.Load() {
			errs = append(errs, fmt.Errorf("registrars.%s: still used by %d profiles that were added through the API; remove or change them first", name, count))
			continue
		}
		n.log.Warn("profiles that were added through the API name a registrar that is not configured; they stay unregistered",
			"registrar", name, "profiles", count)
	}
	return errors.Join(errs...)
}

// declareAll returns the declarations that must wait because their profile is
// being removed first.
func (n *Node) declareAll(ctx context.Context, declared []actors.Declared) []actors.Declared {
	var again []actors.Declared
	for i, r := range n.farm.Declare(ctx, declared, false) {
		switch r.Error {
		case "":
		case actors.ErrBusy.Error():
			again = append(again, declared[i])
		default:
			n.log.Error("profile not applied", "profile", r.ID, "error", r.Error)
		}
	}
	return again
}

// declareLater repeats declarations until the old bindings are gone.
func (n *Node) declareLater(again []actors.Declared) {
	const wait = 2 * time.Second
	for len(again) > 0 {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(wait):
		}
		again = n.declareAll(n.ctx, again)
	}
}

// dropUnlisted removes the profiles of files that no file lists any more, and
// their tombstones.
func (n *Node) dropUnlisted(ctx context.Context, listed map[string]bool) error {
	var gone, tombs []string
	err := n.farm.Declarations(ctx, func(id string, s profile.State) {
		switch {
		case s.Source != sourceFile || listed[id]:
		case s.Gone:
			tombs = append(tombs, id)
		case s.Exists() && !s.Removing:
			gone = append(gone, id)
		}
	})
	if err != nil {
		return err
	}
	for _, id := range gone {
		if _, err := n.farm.Do(ctx, id, profile.Remove{}); err != nil {
			return fmt.Errorf("remove profile %s: %w", id, err)
		}
	}
	for _, id := range tombs {
		if _, err := n.farm.Do(ctx, id, profile.Clear{}); err != nil {
			return fmt.Errorf("clear profile %s: %w", id, err)
		}
	}
	return nil
}

func declare(d actors.Declaration, source string, newSecret bool) profile.Declare {
	return profile.Declare{Spec: specOf(d), Disabled: d.Disabled, Source: source, Row: rowOf(d), NewSecret: newSecret}
}
