// Package profile decides what a registered profile does next. It owns the
// rules of RFC 3261 §10 and §22 for the registering side, of RFC 5626 §4.5 for
// waiting, and the order in which they apply; it knows no clock, no secret, no
// actor, no SIP library and no store.
//
// Decide takes the state and one input and says which events to record and then
// which effects to carry out. Apply folds an event into the state, live and in
// replay alike. The host records first and acts after, so a crash between the
// two loses nothing but time; after it has read the state back it delivers
// Recovered.
//
// The attempt and the binding are two small machines. An attempt goes
//
//	undeclared -> waiting, idle: Declare
//	idle -> waiting: Declare, Enable
//	waiting, halted -> idle: Declare, Disable, TimerFired
//	halted -> waiting: Declare, Refresh, Disable, Remove, SetSecurity
//	waiting, halted, idle -> sent, asking: SlotGranted, Fetch, Withdraw
//	asking -> sent: CredentialsOffered, CredentialsWithheld
//	sent -> asking: ResponseReceived
//	sent -> waiting, idle, halted: ResponseReceived, RequestFailed
//	asking -> waiting, idle, halted: CredentialsWithheld
//	asking -> waiting, idle, undeclared: CredentialsOffered
//	sent, asking -> waiting, idle, halted: TimerFired, Recovered
//	idle, waiting, halted -> undeclared: Remove, TimerFired
//	sent -> undeclared: ResponseReceived, RequestFailed
//	asking -> undeclared: CredentialsWithheld
//	sent, asking -> undeclared: TimerFired, Recovered
//
// where an offer ends the asking when the profile was called off meanwhile, a
// refusal sends the request without credentials when nobody has asked for any,
// waiting means that an attempt is due, at once or at a time, idle that
// none is wanted, and halted that it was rejected and waits for long. A 423, a
// 420, a redirect and a 481 stay in sent. The binding goes
//
//	unbound, doubtful -> bound: ResponseReceived
//	unbound -> doubtful: RequestFailed, TimerFired, Recovered, ResponseReceived
//	bound -> doubtful: TimerFired
//	bound, doubtful -> unbound: ResponseReceived, TimerFired
//	bound, doubtful -> unbound: RequestFailed, CredentialsWithheld, Recovered
//
// where doubtful means that a request was lost that may have been heard; the
// last line is a removal that is given up.
//
// What is promised: CSeq numbers and nonce counts never go out twice, also
// across crashes; one request is out at a time; whatever is wanted has a
// deadline in the state; a chain of challenges ends after three answers per
// realm and five rounds; a wrong password is answered once, then rarely. What a
// peer does wrong is an event with a reason and never an error.
//
// Read on in decide.go, then decide_attempt.go and decide_response.go, then a
// script in testdata. What an event means to an operator is in describe.go.
package profile
