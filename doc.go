// Package muster keeps very many SIP profiles registered, and lets any program
// answer the authentication challenges that it meets.
//
// A Node is one event-sourced actor system: one actor per profile, woken when
// there is something to do. Every decision is made by a pure core
// (actors/profile), recorded in a bbolt journal (store) and only then carried
// out (actors, sipadapter). This package introduces the parts to each other, in
// one straight line; see node.go.
//
//	node, err := muster.New(muster.Options{
//		DataDir:    "./data",
//		SIP:        muster.SIP{Listen: []string{"udp://127.0.0.1:5070"}},
//		Registrars: []actors.Registrar{{Name: "acme", URI: "sip:127.0.0.1:5060"}},
//		Profiles:   []actors.Declaration{{ID: "alice", AOR: "sip:alice@example.test", Registrar: "acme", Password: secret}},
//	})
//	if err != nil { ... }
//	if err := node.Start(ctx); err != nil { ... }
//	defer node.Stop(context.Background())
//
// Several nodes can run in one process, each with its own data folder. There is
// no global state, and nothing is registered anywhere by importing the package.
//
// Where to read next: docs/architecture.md walks a challenged REGISTER through
// the files.
package muster
