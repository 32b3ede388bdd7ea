package muster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sipmuster/muster/store"
)

// bodySecret begins the ids of the sealed bodies of sessions. No profile id has
// a control character, and what xSPs keep begins with xspSecret, so the three
// never meet.
const bodySecret = "\x01body\x01"

// maxSealedBody bounds a body with its content type: more than fits into a
// datagram never came from SIP.
const maxSealedBody = 64 << 10

// bodyFormat is the first byte of a sealed body. The length of the content type
// follows as a varint, then the content type and the body.
const bodyFormat = 1

// bodies keeps the bodies of sessions among the store's secrets.
type bodies struct{ node *Node }

// keptBodies are the sessions that have a sealed body, so that forgetting what
// was never kept costs no commit.
type keptBodies struct {
	mu  sync.Mutex
	ids map[string]bool // true for those of an earlier process
}

func (k *keptBodies) add(session string, found bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil {
		k.ids = map[string]bool{}
	}
	k.ids[session] = found
}

func (k *keptBodies) has(session string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.ids[session]
	return ok
}

func (k *keptBodies) remove(session string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.ids, session)
}

// found lists those of an earlier process.
func (k *keptBodies) found() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var sessions []string
	for id, found := range k.ids {
		if found {
			sessions = append(sessions, id)
		}
	}
	return sessions
}

// KeepBody implements actors.Bodies. It returns when the body is durable.
func (b bodies) KeepBody(session, contentType string, body []byte) error {
	plain := binary.AppendUvarint([]byte{bodyFormat}, uint64(len(contentType)))
	plain = append(append(plain, contentType...), body...)
	if len(plain) > maxSealedBody {
		return fmt.Errorf("keep the body of session %s: %d bytes, want at most %d", session, len(plain), maxSealedBody)
	}
	// Noted before, because the outcome of a commit can be unknown.
	b.node.bodies.add(session, false)
	if err := b.node.putSecrets(b.ctx(), map[string][]byte{bodySecret + session: plain}); err != nil {
		return fmt.Errorf("keep the body of session %s: %w", session, err)
	}
	return nil
}

// Body implements actors.Bodies.
func (b bodies) Body(session string) (contentType string, body []byte, ok bool) {
	plain, err := b.node.store.Secret(bodySecret + session)
	if errors.Is(err, store.ErrNoSecret) {
		return "", nil, false
	}
	if err == nil {
		if contentType, body, ok = splitBody(plain); ok {
			return contentType, body, true
		}
		err = errors.New("it is of an unknown format")
	}
	b.node.log.Warn("the body of a session cannot be read", "session", session, "error", err)
	return "", nil, false
}

func splitBody(plain []byte) (contentType string, body []byte, ok bool) {
	if len(plain) == 0 || plain[0] != bodyFormat {
		return "", nil, false
	}
	n, size := binary.Uvarint(plain[1:])
	if size <= 0 || n > uint64(len(plain)-1-size) {
		return "", nil, false
	}
	rest := plain[1+size:]
	return string(rest[:n]), rest[n:], true
}

// ForgetBody implements actors.Bodies. It returns when the body is gone, at once
// when there is none.
func (b bodies) ForgetBody(session string) {
	if b.node.bodies.has(session) {
		b.node.dropBodies(b.ctx(), session)
	}
}

// ctx does not end with Stop: calls that end then have bodies to forget.
func (b bodies) ctx() context.Context { return context.WithoutCancel(b.node.ctx) }

// dropOrphanBodies removes the bodies, found at the start, of sessions that are
// not alive: a node that ended between the end of a session and that of its
// body leaves some.
func (n *Node) dropOrphanBodies(alive func(session string) bool) {
	var orphans []string
	for _, session := range n.bodies.found() {
		if !alive(session) {
			orphans = append(orphans, session)
		}
	}
	if len(orphans) > 0 {
		n.dropBodies(n.ctx, orphans...)
	}
}

func (n *Node) dropBodies(ctx context.Context, sessions ...string) {
	ids := make([]string, len(sessions))
	for i, session := range sessions {
		ids[i] = bodySecret + session
	}
	if err := n.store.DeleteSecrets(ctx, ids...); err != nil {
		n.log.Warn("bodies of sessions that are over stay sealed in the store until the next start", "sessions", len(sessions), "error", err)
		return
	}
	for _, session := range sessions {
		n.bodies.remove(session)
	}
}

// noteBody tells whether a sealed value is the body of a session, and remembers
// that there is one.
func (n *Node) noteBody(id string) bool {
	session, ok := strings.CutPrefix(id, bodySecret)
	if ok {
		n.bodies.add(session, true)
	}
	return ok
}
