package muster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// useFileSecret puts the secret of a row into force and tells whether it
// differs from the one before.
func (n *Node) useFileSecret(d actors.Declaration) (changed bool) {
	changed, ended := n.credentials.setFromFile(d)
	if ended {
		n.unseal(d.ID)
	}
	return changed
}

// changeSecret puts a secret that came with a PATCH into force, after it was
// sealed, and tells whether it differs from the one before.
func (n *Node) changeSecret(ctx context.Context, id string, s profile.State, next actors.Credential) (changed bool, err error) {
	n.sealing.Lock()
	defer n.sealing.Unlock()
	known, _ := n.credentials.Credential(id)
	if equal(known, next) || isEmpty(known) && isEmpty(next) {
		return false, nil
	}
	says, replaced := n.credentials.fileSays(id)
	if s.Source == sourceFile && !replaced {
		says, replaced = fileRow{s.Row, known}, true
	}
	plain := plainOf(next)
	if replaced {
		plain.Row, plain.Replaced = says.hash, new(plainOf(says.credential))
	}
	sealed, err := json.Marshal(plain)
	if err == nil {
		err = n.putSecrets(ctx, map[string][]byte{id: sealed})
	}
	if err != nil {
		return false, fmt.Errorf("seal the secret of %s: %w", id, err)
	}
	if replaced {
		n.credentials.replace(id, next, says)
	} else {
		n.credentials.set(id, next)
	}
	return true, nil
}

// unseal removes the sealed secret of a profile of a file, which the file has
// overruled.
func (n *Node) unseal(id string) {
	n.alongside(func() {
		n.sealing.Lock()
		defer n.sealing.Unlock()
		if _, again := n.credentials.fileSays(id); !again {
			n.deleteSecret(id)
		}
	})
}

// secretGone removes the secret of a profile that was forgotten, unless a new
// profile of that name has one by then.
func (n *Node) secretGone(id string) {
	n.credentials.remove(id)
	n.alongside(func() {
		n.sealing.Lock()
		defer n.sealing.Unlock()
		if _, again := n.credentials.Credential(id); !again {
			n.deleteSecret(id)
		}
	})
}

func (n *Node) deleteSecret(id string) {
	if err := n.store.DeleteSecret(n.ctx, id); err != nil && n.ctx.Err() == nil {
		n.log.Warn("a secret that nobody needs stays in the store", "profile", id, "error", err)
	}
}

// dropOrphans removes the sealed secrets of profiles that do not exist: a node
// that ended in the middle of a removal or an addition leaves some.
func (n *Node) dropOrphans(ctx context.Context) error {
	orphans := n.sealed
	n.sealed = nil
	if orphans.Len() == 0 {
		return nil
	}
	err := n.farm.PeekAll(ctx, func(id string, s *profile.State) {
		if s.Exists() {
			orphans.Delete(id)
		}
	})
	if err != nil {
		return err
	}
	for id := range orphans.All() {
		n.secretGone(id)
	}
	return nil
}

// openSecrets reads all sealed secrets. Those of files are in force already.
func (n *Node) openSecrets() error {
	n.sealed = &declare.Table{}
	var overruled []string
	err := n.store.EachSecret(n.ctx, func(id string, plain []byte) error {
		if isXSPSecret(id) || n.noteBody(id) {
			return nil
		}
		n.sealed.Put(id, nil)
		var s sealedCredential
		if json.Unmarshal(plain, &s) != nil {
			// The error of json can quote its input.
			return fmt.Errorf("the sealed secret of %s is not readable", id)
		}
		row, listed := n.plan.row(id)
		switch {
		case s.Replaced != nil && (!listed || row.isRow(s.Row) && n.credentials.is(id, s.Replaced.credential())):
			n.credentials.replace(id, s.credential(), fileRow{s.Row, s.Replaced.credential()})
		case !listed:
			n.credentials.set(id, s.credential())
		case s.Replaced != nil:
			overruled = append(overruled, id)
		}
		return nil
	})
	for _, id := range overruled {
		n.unseal(id)
	}
	return err
}

// putSecrets seals secrets in the store.
func (n *Node) putSecrets(ctx context.Context, sealed map[string][]byte) error {
	err := n.store.PutSecrets(ctx, sealed)
	if errors.Is(err, store.ErrFailed) {
		err = fmt.Errorf("%w: %w", actors.ErrStoreFailed, err)
	}
	return err
}

// sealedCredential is the plaintext of a sealed secret. It exists only between
// encoding and sealing.
type sealedCredential struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	HA1      string `json:"ha1,omitempty"`
	// Row and Replaced are what the file says instead.
	Row      string            `json:"row,omitempty"`
	Replaced *sealedCredential `json:"replaced,omitempty"`
}

func plainOf(c actors.Credential) sealedCredential {
	return sealedCredential{Username: c.Username, Password: c.Password.Reveal(), HA1: c.HA1.Reveal()}
}

func (s sealedCredential) credential() actors.Credential {
	return actors.Credential{Username: s.Username, Password: messages.NewSecret(s.Password), HA1: messages.NewSecret(s.HA1)}
}
