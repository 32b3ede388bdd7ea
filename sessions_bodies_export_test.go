package muster

import "github.com/sipmuster/muster/actors"

// Bodies is how the farm of a node keeps the bodies of sessions.
func Bodies(n *Node) actors.Bodies { return bodies{n} }

// DropOrphanBodies is what a start does once it knows which sessions are alive.
func DropOrphanBodies(n *Node, alive func(session string) bool) { n.dropOrphanBodies(alive) }

// JournalOf is the journal as the farm sees it.
func JournalOf(n *Node) actors.Journal { return journal{n.store} }

// SealedIDs are the ids of all sealed values.
func SealedIDs(n *Node) ([]string, error) {
	var ids []string
	err := n.store.EachSecret(n.ctx, func(id string, _ []byte) error {
		ids = append(ids, id)
		return nil
	})
	return ids, err
}

// SealBody seals a value as the body of a session, whatever it is.
func SealBody(n *Node, session string, plain []byte) error {
	return n.store.PutSecret(n.ctx, bodySecret+session, plain)
}

// Checkpoint makes snapshots.
func Checkpoint(n *Node) error { return n.store.Checkpoint(n.ctx) }
