package muster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// The sources of a declaration.
const (
	sourceFile = "file"
	sourceAPI  = "api"
)

// check normalises and validates a declaration.
func (n *Node) check(d actors.Declaration) (actors.Declaration, error) {
	d = normalised(d)
	return d, validateDeclaration(d, n.knowsRegistrar, n.farm.XSPNames())
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
	done, err := n.alone(ctx)
	if err != nil {
		return actors.ProfileView{}, err
	}
	defer done()
	if err := n.farm.Vacant(ctx, d.ID); err != nil {
		return actors.ProfileView{}, err
	}
	taken, err := n.takenBindings(ctx, []actors.Declaration{d})
	if err != nil {
		return actors.ProfileView{}, err
	}
	if other := taken[bindingOf(d)]; other != "" {
		return actors.ProfileView{}, errTaken(d, other)
	}
	if _, err := n.keepSecrets(ctx, []actors.Declaration{d}, false); err != nil {
		return actors.ProfileView{}, err
	}
	n.bindings.add(d.ID, bindingOf(d))
	return n.farm.Do(ctx, d.ID, declaration(d, sourceAPI, false))
}

// ImportProfiles adds or changes many profiles at once and returns what became
// of each, in order. With dryRun nothing changes.
func (n *Node) ImportProfiles(ctx context.Context, ds []actors.Declaration, dryRun bool) []actors.ImportResult {
	results := make([]actors.ImportResult, len(ds))
	var accepted []actors.Declaration
	var places []int
	seen := map[string]bool{}
	var taken map[binding]string
	done, err := n.alone(ctx)
	if err == nil {
		defer done()
		taken, err = n.takenBindings(ctx, ds)
	}
	if err != nil {
		for i, d := range ds {
			results[i] = actors.ImportResult{ID: d.ID, Result: actors.ResultInvalid, Error: err.Error()}
		}
		return results
	}
	for i, d := range ds {
		d, err := n.check(d)
		if err == nil && seen[d.ID] {
			err = fmt.Errorf("%w: profile %q stands twice in the import", actors.ErrInvalid, d.ID)
		}
		seen[d.ID] = true
		if other := taken[bindingOf(d)]; err == nil && other != "" && other != d.ID {
			err = errTaken(d, other)
		}
		if err == nil {
			err = n.sameBinding(ctx, d)
		}
		taken[bindingOf(d)] = d.ID
		if err != nil {
			results[i] = actors.ImportResult{ID: d.ID, Result: actors.ResultInvalid, Error: err.Error()}
			continue
		}
		accepted, places = append(accepted, detached(d)), append(places, i)
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
		declared[i] = actors.Declared{ID: d.ID, Command: declaration(d, sourceAPI, changed[i])}
	}
	if !dryRun {
		n.bindings.addAll(declared)
	}
	for i, r := range n.farm.Declare(ctx, declared, dryRun) {
		results[places[i]] = r
	}
	return results
}

// alone waits until no other change through the API is under way: each of them
// looks first at what is there.
func (n *Node) alone(ctx context.Context) (done func(), err error) {
	select {
	case n.changing <- struct{}{}:
		return func() { <-n.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sameBinding refuses to turn a profile into one for another binding: aor and
// registrar identify what must be withdrawn first.
func (n *Node) sameBinding(ctx context.Context, d actors.Declaration) error {
	s, _, err := n.farm.State(ctx, d.ID)
	switch {
	case errors.Is(err, actors.ErrNotFound):
		if err := n.farm.Vacant(ctx, d.ID); !errors.Is(err, actors.ErrExists) {
			return err
		}
		return nil
	case err != nil:
		return err
	case s.Spec.AOR != d.AOR || s.Spec.Registrar != d.Registrar:
		return errIdentity(d.ID)
	}
	return nil
}

func errIdentity(id string) error {
	return fmt.Errorf("%w: profile %q: aor and registrar identify the binding; remove the profile and add it again", actors.ErrInvalid, id)
}

// keepSecrets seals the secrets of profiles before the profiles know of them,
// so that no crash leaves one without. It tells which differ from what was
// known; with dry nothing is kept. A declaration without a secret, as in an
// export, leaves the known one alone.
func (n *Node) keepSecrets(ctx context.Context, ds []actors.Declaration, dry bool) (changed []bool, err error) {
	changed = make([]bool, len(ds))
	sealed, secrets := map[string][]byte{}, map[string]actors.Credential{}
	for i, d := range ds {
		next := credentialOf(d)
		old, _ := n.credentials.Credential(d.ID)
		if isEmpty(next) {
			next.Password, next.HA1 = old.Password, old.HA1
		}
		if isEmpty(next) || equal(old, next) {
			continue
		}
		secrets[d.ID] = next
		changed[i] = true
		if sealed[d.ID], err = json.Marshal(plainOf(next)); err != nil {
			return nil, fmt.Errorf("seal the secret of %s: %w", d.ID, err)
		}
	}
	if dry {
		return changed, nil
	}
	n.sealing.Lock()
	defer n.sealing.Unlock()
	if len(sealed) > 0 {
		if err := n.putSecrets(ctx, sealed); err != nil {
			return nil, fmt.Errorf("seal secrets: %w", err)
		}
	}
	for id, next := range secrets {
		n.credentials.set(id, next)
	}
	return changed, nil
}

// ChangeProfile changes some fields of a profile. The change of a profile that
// a file declares lasts until its row changes.
func (n *Node) ChangeProfile(ctx context.Context, id string, p actors.Patch) (actors.ProfileView, error) {
	done, err := n.alone(ctx)
	if err != nil {
		return actors.ProfileView{}, err
	}
	defer done()
	s, _, err := n.farm.State(ctx, id)
	if err != nil {
		return actors.ProfileView{}, err
	}
	if p.AOR != nil && *p.AOR != s.Spec.AOR || p.Registrar != nil && *p.Registrar != s.Spec.Registrar {
		return actors.ProfileView{}, errIdentity(id)
	}
	c, _ := n.credentials.Credential(id)
	d, err := n.check(patched(id, s, c, p))
	if err != nil {
		return actors.ProfileView{}, err
	}
	changed, err := n.changeSecret(ctx, id, s, credentialOf(d))
	if err != nil {
		return actors.ProfileView{}, err
	}
	command := declaration(d, s.Source, changed)
	// The row stays, so that the unchanged file does not undo the change; the
	// marked source makes the core look at the fields.
	command.Row, command.Patch = s.Row, true
	n.bindings.add(id, bindingOf(d))
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

// SetSecurity chooses who answers the challenges to a profile's registrations
// and sessions, from the next attempt on; nil leaves one as it is, empty is the
// registrar's default. What a file says comes back when its row changes.
func (n *Node) SetSecurity(ctx context.Context, id string, registration, session *string) (actors.ProfileView, error) {
	for field, handler := range map[string]*string{"registration_handler": registration, "session_handler": session} {
		if handler == nil {
			continue
		}
		if err := actors.CheckHandler(*handler, n.farm.XSPNames()); err != nil {
			return actors.ProfileView{}, fmt.Errorf("%w: profile %q: %s: %w", actors.ErrInvalid, id, field, err)
		}
	}
	return n.farm.Do(ctx, id, profile.SetSecurity{Registration: registration, Session: session})
}

// XSPs returns what stands beside the DigestActor.
func (n *Node) XSPs(ctx context.Context) ([]actors.XSPView, error) { return n.farm.XSPs(ctx) }

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

func declaration(d actors.Declaration, source string, newSecret bool) profile.Declare {
	return profile.Declare{Spec: specOf(d), Disabled: d.Disabled, Source: source, Row: rowOf(d), NewSecret: newSecret}
}
