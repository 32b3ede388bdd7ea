package muster

import (
	"context"

	"github.com/sipmuster/muster/actors"
)

// api is the node as the HTTP API sees it: sessions by id and without handles.
type api struct{ *Node }

// StartSession implements admin.Node.
func (a api) StartSession(ctx context.Context, r actors.SessionRequest) (actors.SessionView, error) {
	return a.farm.StartSession(ctx, r)
}

// EndSession implements admin.Node.
func (a api) EndSession(ctx context.Context, id string) (actors.SessionView, error) {
	return a.farm.EndSession(ctx, id)
}

// SendInSession implements admin.Node.
func (a api) SendInSession(ctx context.Context, id string, r actors.InDialog) (actors.InDialogResult, error) {
	return a.farm.SendInSession(ctx, id, r)
}

// Session returns one session, also one of the last that ended.
func (n *Node) Session(ctx context.Context, id string) (actors.SessionView, error) {
	return n.farm.Session(ctx, id)
}

// Sessions returns a page of the sessions that are not over.
func (n *Node) Sessions(ctx context.Context, q actors.SessionQuery) (actors.SessionPage, error) {
	return n.farm.Sessions(ctx, q)
}

// SessionHistory returns the newest events of a session before a version,
// newest first.
func (n *Node) SessionHistory(ctx context.Context, id string, before uint64, limit int) ([]actors.HistoryEntry, error) {
	return n.farm.SessionHistory(ctx, id, before, limit)
}

// Watch tells of every event as it is recorded, until ctx ends. A watcher that
// does not keep up is cut off: its channel is closed.
func (n *Node) Watch(ctx context.Context, q actors.ChangeQuery) (<-chan actors.Change, error) {
	return n.farm.Watch(ctx, q)
}

// onInvite is nil when nobody takes calls, so that no index of contacts is
// kept.
func (n *Node) onInvite() func(actors.IncomingCall) actors.Owner {
	if n.options.OnInvite == nil {
		return nil
	}
	return n.invited
}
