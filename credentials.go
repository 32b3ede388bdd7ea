package muster

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
)

// credentials holds the secrets of all profiles in memory: those of files are
// read at each start, those of the API are sealed in the store.
type credentials struct {
	mu  sync.RWMutex
	all declare.Table // credentials that packed writes, by id
	// packing is where they are written before they are put.
	packing []byte
	// replaced holds what the file says of a profile whose secret was changed
	// through the API: the change lasts for as long as the file says this.
	replaced map[string]fileRow
}

// fileRow is what a file says of a profile.
type fileRow struct {
	hash       string
	credential actors.Credential
}

func newCredentials() *credentials { return &credentials{replaced: map[string]fileRow{}} }

// Credential implements actors.Credentials.
func (c *credentials) Credential(id string) (actors.Credential, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	packed, ok := c.all.Get(id)
	if !ok {
		return actors.Credential{}, false
	}
	return unpack(packed), true
}

// is tells whether a profile has this credential.
func (c *credentials) is(id string, other actors.Credential) bool {
	known, _ := c.Credential(id)
	return equal(known, other)
}

// set replaces a secret.
func (c *credentials) set(id string, next actors.Credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.replaced, id)
	c.put(id, next)
}

// put needs the lock.
func (c *credentials) put(id string, next actors.Credential) (changed bool) {
	if isEmpty(next) {
		return c.all.Delete(id)
	}
	c.packing = pack(c.packing[:0], next)
	old, known := c.all.Get(id)
	if known && bytes.Equal(old, c.packing) {
		return false
	}
	c.all.Put(id, c.packing)
	clear(c.packing)
	return true
}

// setFromFile is set for what a file says. An unchanged row does not undo what
// the API did since; ended tells that another one does.
func (c *credentials) setFromFile(d actors.Declaration) (changed, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, ended := c.replaced[d.ID]
	if ended && before.hash == rowOf(d) && equal(before.credential, credentialOf(d)) {
		return false, false
	}
	delete(c.replaced, d.ID)
	return c.put(d.ID, credentialOf(d)), ended
}

// inForce tells whether setFromFile would leave everything as it is.
func (c *credentials) inForce(d actors.Declaration) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	next := credentialOf(d)
	if before, replaced := c.replaced[d.ID]; replaced {
		return before.hash == rowOf(d) && equal(before.credential, next)
	}
	packed, known := c.all.Get(d.ID)
	if isEmpty(next) {
		return !known
	}
	var room [128]byte
	b := pack(room[:0], next)
	defer clear(b)
	return known && bytes.Equal(packed, b)
}

// replace is set for a secret that lasts until the file says something else.
func (c *credentials) replace(id string, next actors.Credential, says fileRow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replaced[id] = says
	c.put(id, next)
}

// fileSays is what the file says of a profile, and false when its secret was
// not changed since.
func (c *credentials) fileSays(id string) (fileRow, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	row, ok := c.replaced[id]
	return row, ok
}

func (c *credentials) remove(id string) { c.set(id, actors.Credential{}) }

func credentialOf(d actors.Declaration) actors.Credential {
	return actors.Credential{Username: d.Username, Password: d.Password, HA1: d.HA1}
}

func isEmpty(c actors.Credential) bool { return c.Password.Empty() && c.HA1.Empty() }

func equal(a, b actors.Credential) bool {
	return a.Username == b.Username && a.Password.Equal(b.Password) && a.HA1.Equal(b.HA1)
}

// pack writes a credential as user name and password, each after its length,
// and the HA1.
func pack(b []byte, c actors.Credential) []byte {
	for _, text := range [...]string{c.Username, c.Password.Reveal()} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return append(b, c.HA1.Reveal()...)
}

func unpack(b []byte) actors.Credential {
	cut := func() string {
		size, head := binary.Uvarint(b)
		text := string(b[head : head+int(size)])
		b = b[head+int(size):]
		return text
	}
	return actors.Credential{Username: cut(), Password: messages.NewSecret(cut()), HA1: messages.NewSecret(string(b))}
}
