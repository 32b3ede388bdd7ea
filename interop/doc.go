// Package interop runs programs of others for tests: a node is only right when
// software that we did not write agrees.
//
// Kamailio (Debian packages kamailio and kamailio-extra-modules) is the
// registrar, and a proxy that challenges calls. StartKamailio runs it on a free
// port of loopback as a child, with its own folder and control socket, so that
// tests run beside each other and beside an installed Kamailio. What it holds is
// asked of Kamailio itself (Count, Lookup, Counters), never concluded from what
// we sent.
//
// SIPp (Debian package sip-tester) is the far end of calls, and the PBX of a
// trunk. Its scenarios are in testdata/sipp, each with a comment that says what
// it asks for. They run by hand as well:
//
//	sipp -sf testdata/sipp/407.xml -i 127.0.0.1 -p 5080 -m 1 -trace_msg
//
// SIPp checks that the right messages come in the right order and verifies
// Authorization. It also logs every message, and the tests hold that log against
// the RFCs, call by call: numbers, tags, branches, digests, ACK, CANCEL, BYE.
// Scenarios and judge are tested against a caller made by hand, who does
// everything right, or one thing wrong.
//
// Relay is a network that loses, repeats and reorders datagrams.
//
// The tests of xSPs also run the examples of docs/examples as programs of their
// own; that of the webhook needs python3.
//
// The tests that use these have the build tag interop: they need the packages
// and take seconds. They are run by make interop, which fails without Kamailio,
// and without SIPp says what it skipped.
package interop
