package usim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// Options are what a Provider is made of.
type Options struct {
	// Subscribers are all that it knows.
	Subscribers []Subscriber
	// Delta is the largest jump of a sequence number's SEQ that is accepted; 0
	// means 2^28 (3GPP TS 33.102 C.3.2), and 1<<43 or more any.
	Delta uint64
	// Cnonce makes client nonces; nil means 128 random bits.
	Cnonce func() string
}

// Subscriber is who answers for one profile.
type Subscriber struct {
	// Profile is the profile's id.
	Profile string
	// IMPI is the private identity, the user name of the digest; empty means the
	// user part of the profile's AOR.
	IMPI string
	// Keys are made by aka.KeysFromOP or aka.KeysFromOPc.
	Keys aka.Keys
	// V2Only never answers AKAv1.
	V2Only bool
}

// Provider answers the questions of its subscribers.
type Provider struct {
	subscribers map[string]subscriber
	delta       uint64
	cnonce      func() string
	vault       xsp.Vault
}

var _ xsp.Keeper = (*Provider)(nil)

type subscriber struct {
	Subscriber
	card *card
}

// card is one USIM. Who has taken the token out of turn owns what follows it.
type card struct {
	key  string // in the vault
	turn chan struct{}
	open aka.Open
}

var (
	errNoVault   = errors.New("usim: asked before it was given a vault")
	errDuplicate = errors.New("is there already")
)

// New makes a Provider. Its errors name all subscribers that are at fault.
func New(o Options) (*Provider, error) {
	p := &Provider{subscribers: make(map[string]subscriber, len(o.Subscribers)), delta: o.Delta, cnonce: o.Cnonce}
	if p.cnonce == nil {
		p.cnonce = token
	}
	cards := map[string]*card{}
	var faults []error
	for i, s := range o.Subscribers {
		if err := s.validate(); err != nil {
			faults = append(faults, fmt.Errorf("subscriber %d: %w", i+1, err))
			continue
		}
		if _, known := p.subscribers[s.Profile]; known {
			faults = append(faults, fmt.Errorf("subscriber %d: profile: %w", i+1, errDuplicate))
			continue
		}
		id := s.Keys.ID()
		if cards[id] == nil {
			cards[id] = &card{key: "usim/" + id, turn: make(chan struct{}, 1)}
		}
		p.subscribers[s.Profile] = subscriber{s, cards[id]}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return p, nil
}

func (s Subscriber) validate() error {
	switch {
	case s.Profile == "":
		return errors.New("profile: is missing")
	case s.Keys.Empty():
		return errors.New("keys: are missing")
	}
	if err := validIMPI(s.IMPI); err != nil {
		return fmt.Errorf("impi: %w", err)
	}
	return nil
}

// token is 128 random bits (DIG-14).
func token() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Keep implements xsp.Keeper.
func (p *Provider) Keep(v xsp.Vault) error {
	if v == nil {
		return errNoVault
	}
	p.vault = v
	return nil
}

// Answer implements xsp.Authenticator.
func (p *Provider) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	s, known := p.subscribers[q.GetProfileId()]
	if !known {
		return nil, xsp.Refuse("no subscriber keys", 0)
	}
	if p.vault == nil {
		return nil, errNoVault
	}
	select {
	case s.card.turn <- struct{}{}:
		defer func() { <-s.card.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return p.answer(ctx, q, s)
}

// answer needs the card's turn.
func (p *Provider) answer(ctx context.Context, q *messages.AuthChallenge, s subscriber) (*messages.AuthAnswer, error) {
	// The vault is asked each time. After a write that failed nobody knows which
	// state it holds, and a copy here could be the older one.
	state, err := p.load(ctx, s.card.key)
	if err != nil {
		return nil, err
	}
	impi := s.IMPI
	if impi == "" {
		impi = messages.UserPart(q.GetAor())
	}
	out := aka.Answer(q, aka.Subscriber{IMPI: impi, Keys: s.Keys, V2Only: s.V2Only, Delta: p.delta}, state, s.card.open, p.cnonce)
	if out.State != state {
		if err := p.save(ctx, s.card.key, out.State); err != nil {
			return nil, err
		}
	}
	s.card.open = out.Open
	if out.Refusal != nil {
		return nil, xsp.Refuse(out.Refusal.GetReason(), 0)
	}
	return out.Answer, nil
}

func (p *Provider) load(ctx context.Context, key string) (aka.State, error) {
	b, err := p.vault.Get(ctx, key)
	if err != nil {
		return aka.State{}, fmt.Errorf("read the state of a usim: %w", err)
	}
	if b == nil {
		return aka.State{}, nil
	}
	var state aka.State
	if err := state.UnmarshalBinary(b); err != nil {
		return aka.State{}, err
	}
	return state, nil
}

func (p *Provider) save(ctx context.Context, key string, state aka.State) error {
	b, err := state.MarshalBinary()
	if err != nil {
		return err
	}
	if err := p.vault.Put(ctx, key, b); err != nil {
		return fmt.Errorf("store the state of a usim: %w", err)
	}
	return nil
}
