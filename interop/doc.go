// Package interop runs programs of others for tests: a node is only right when
// software that we did not write agrees.
//
// Kamailio (Debian packages kamailio and kamailio-extra-modules) is the
// registrar. StartKamailio runs it on a free port of loopback as a child, with
// its own folder and control socket, so that tests run beside each other and
// beside an installed Kamailio. What it holds is asked of Kamailio itself
// (Count, Lookup, Counters), never concluded from what we sent.
//
// The tests of xSPs also run the examples of docs/examples as programs of their
// own; that of the webhook needs python3.
//
// The tests that use it have the build tag interop: they need the packages and
// take seconds. They are run by make interop, which fails when a program is
// missing.
package interop
