// Package machinetest drives a decision core as a host would, and checks after
// every step that the rules of the house hold. It is used by tests only.
//
// A Machine is a profile and the little that its host remembers: which
// question and which request are out. Step delivers one command, checks the
// decision, and folds the events. What is checked is in invariants.go, by the
// names that docs/testing.md gives:
//
//	I1  folding the recorded events gives the live state, also through a
//	    snapshot, and packing it loses nothing
//	I2  CSeq strictly increases per Call-ID, by one
//	I3  at most one request or question is out, and while an attempt is open
//	    one of them is
//	I4  a nonce count never repeats for a space, realm and nonce, and is
//	    recorded before its request
//	I5  no stall: what is wanted has a request out, a question asked or a time
//	    to wake up
//	I6  a realm and a chain are answered no more often than allowed
//	I8  an input of an older attempt changes nothing
//	I9  Decide is a function: the same arguments give the same result, and the
//	    state that was given is left alone
//
// I7, that no secret is recorded, holds by construction here: no command has a
// field that could carry one, which a test of the profile package asserts.
//
// Scripts are text files. A block is one or more command lines, a line of four
// dashes, and what must come of it; a blank line ends it. Indented lines
// continue the command above them, as the headers of a response do. A line
// that begins with # is a comment; each script begins with one that names the
// rows of the standards checklist which it proves.
//
//	slot
//	----
//	recorded  CallIDChosen{1}
//	          AttemptStarted{1 REGISTER cseq=1 expires=3600}
//	do        SendRequest{1}
//	is        registering, guard in 2m
//
//	response 401
//	  WWW-Authenticate: Digest realm="a", nonce="n1", qop="auth"
//	----
//	recorded  ChallengeReceived{1 401 origin/a MD5 n1}
//	          AttemptStarted{2 REGISTER cseq=2 expires=3600 round=1 origin/a#1 by digest}
//	do        AskCredentials{2 digest 401: origin/a MD5 n1 #1}
//	is        challenged, guard in 2m
//
// After every command the runner also replays all events from nothing and from
// every snapshot, hands a copy inputs of older attempts, and crashes a copy: it
// recovers and must find its way. The flag -update rewrites what the scripts
// expect; read the difference before keeping it.
//
// The commands are listed at Machine.Do. Walk makes random steps, hostile
// responses included, from any source of choices: a seeded generator, the
// bytes of a fuzzer.
package machinetest
