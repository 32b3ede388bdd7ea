package muster

import (
	"fmt"

	"github.com/sipmuster/muster/actors"
)

// BeginBindings makes the next look-up begin its index anew.
func BeginBindings(n *Node) {
	n.bindings.mu.Lock()
	defer n.bindings.mu.Unlock()
	n.bindings.limit = -1
}

// FillBindings puts so many bindings of nobody into the index, which must not be
// empty.
func FillBindings(n *Node, bindings int) {
	for i := range bindings {
		id := fmt.Sprintf("nobody-%d", i)
		n.bindings.add(id, binding{"sip:" + id + "@example.test", "r", id})
	}
	n.bindings.limit = n.bindings.count
}

// BindingBytes is what the index takes.
func BindingBytes(n *Node) (bytes int) {
	for _, bucket := range n.bindings.buckets {
		bytes += 24 + 4*cap(bucket)
	}
	return bytes
}

// TakenBy is who holds the binding of a declaration, or "".
func TakenBy(n *Node, d actors.Declaration) (string, error) {
	taken, err := n.takenBindings(n.ctx, []actors.Declaration{d})
	return taken[bindingOf(d)], err
}
