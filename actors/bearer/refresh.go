package bearer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// vaultPrefix and the profile id are the key of a refresh token in the vault.
const vaultPrefix = "refresh_token/"

// refreshTokens are the refresh tokens of the profiles.
type refreshTokens struct {
	file map[string]messages.Secret

	mu       sync.Mutex // guards what follows
	vault    xsp.Vault
	profiles map[string]*refreshState
}

// refreshState is the refresh token of one profile. Only one request uses it at
// a time: a server that replaces refresh tokens takes a second use of the same
// one for theft (RFC 9700 §4.14.2).
type refreshState struct {
	turn turn // guards what follows, across the request
	// current is empty until it was read from the vault.
	current messages.Secret
	// unsaved is true while the vault does not hold current.
	unsaved bool
}

// kept is what the vault holds: the newest refresh token, and the SHA-256 of
// the token of the file that it descends from. When the file holds another one,
// the operator has started anew.
type kept struct {
	File  string `json:"file"`
	Token string `json:"token"`
}

func (r *refreshTokens) keep(v xsp.Vault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vault = v
}

// of returns the vault and the state of a profile.
func (r *refreshTokens) of(profile string) (xsp.Vault, *refreshState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.profiles[profile]
	if state == nil {
		state = &refreshState{turn: newTurn()}
		r.profiles[profile] = state
	}
	return r.vault, state
}

// refreshed gets an access token by the refresh token of a profile. A refresh
// token that the server has replaced is durable before this returns; one that
// could not be saved is kept in memory, and saved before anything else is asked.
func (p *Provider) refreshed(ctx context.Context, k key, e endpoint) (*token, error) {
	first, ok := p.refresh.file[k.profile]
	if !ok {
		return nil, xsp.Refuse("the profile has no refresh token", 0)
	}
	vault, state := p.refresh.of(k.profile)
	if vault == nil {
		return nil, errors.New("refresh tokens need a vault, and none was given")
	}
	if err := state.turn.take(ctx); err != nil {
		return nil, errors.New("wait for the refresh token: " + describe(err))
	}
	defer state.turn.pass()
	if err := state.load(ctx, vault, k.profile, first); err != nil {
		return nil, err
	}
	if err := state.save(ctx, vault, k.profile, first); err != nil {
		return nil, err
	}
	t, next, err := p.exchange(ctx, k, e, url.Values{
		"grant_type": {RefreshToken}, "refresh_token": {state.current.Reveal()},
	})
	// Also when the access token is of no use: the old refresh token may be
	// gone.
	if next != "" && next != state.current.Reveal() {
		state.current, state.unsaved = messages.NewSecret(next), true
		// The time of the request may be used up; the store gets its own.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		if err := state.save(ctx, vault, k.profile, first); err != nil {
			return nil, err
		}
	}
	return t, err
}

// load decides at the first use between the vault and the file: the vault's
// token is newer, unless the file's has changed since.
func (s *refreshState) load(ctx context.Context, vault xsp.Vault, profile string, first messages.Secret) error {
	if !s.current.Empty() {
		return nil
	}
	value, err := vault.Get(ctx, vaultPrefix+profile)
	if err != nil {
		return fmt.Errorf("read the refresh token from the vault: %w", err)
	}
	s.current = first
	if value == nil {
		return nil
	}
	var k kept
	if json.Unmarshal(value, &k) != nil { // its error could quote the value
		return errors.New("the refresh token in the vault cannot be read")
	}
	if k.File == fingerprint(first) && k.Token != "" {
		s.current = messages.NewSecret(k.Token)
	}
	return nil
}

func (s *refreshState) save(ctx context.Context, vault xsp.Vault, profile string, first messages.Secret) error {
	if !s.unsaved {
		return nil
	}
	value, err := json.Marshal(kept{File: fingerprint(first), Token: s.current.Reveal()})
	if err == nil {
		err = vault.Put(ctx, vaultPrefix+profile, value)
	}
	if err != nil {
		return fmt.Errorf("save the refresh token in the vault: %w", err)
	}
	s.unsaved = false
	return nil
}

func fingerprint(s messages.Secret) string {
	sum := sha256.Sum256([]byte(s.Reveal()))
	return hex.EncodeToString(sum[:])
}
