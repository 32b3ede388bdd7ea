package messages

// Reason says why something did not happen. The set is closed: reasons are
// recorded in events and are label values of metrics, so a spelling is for
// ever.
type Reason string

// Reasons for a failed attempt, a halted profile or a refused credential.
const (
	// ReasonTimeout: no final response within 64*T1 (RFC 3261 §8.1.3.1).
	ReasonTimeout Reason = "timeout"
	// ReasonTransport: the request could not be sent or the connection died.
	ReasonTransport Reason = "transport"
	// ReasonGuard: the adapter reported nothing at all.
	ReasonGuard Reason = "guard.expired"
	// ReasonResolve: the target's name has no usable address (RFC 3263).
	ReasonResolve Reason = "target.unresolved"
	// ReasonTooLarge: the request fits no transport.
	ReasonTooLarge Reason = "request.too_large"
	// ReasonRejectedCredentials: the answer to a fresh nonce was refused.
	ReasonRejectedCredentials Reason = "credentials.refused"
	// ReasonAllowance: too many challenge rounds for one request.
	ReasonAllowance Reason = "challenge.allowance"
	// ReasonChallengeMissing: a 401 or 407 without any challenge.
	ReasonChallengeMissing Reason = "challenge.missing"
	// ReasonChallengeUnsupported: nothing that the handler understands or the
	// policy accepts.
	ReasonChallengeUnsupported Reason = "challenge.unsupported"
	// ReasonRealm: only realms that the profile does not expect.
	ReasonRealm Reason = "realm.unexpected"
	// ReasonDowngrade: weaker than what this realm asked before.
	ReasonDowngrade Reason = "algorithm.downgrade"
	// ReasonNoCredentials: the profile has no secret for the challenge.
	ReasonNoCredentials Reason = "credentials.missing"
	// ReasonHA1Mismatch: the stored HA1 is for another realm or algorithm.
	ReasonHA1Mismatch Reason = "credentials.ha1_mismatch"
	// ReasonHandler: the authenticator did not answer in time or is gone.
	ReasonHandler Reason = "authenticator.unavailable"
	// ReasonHandlerRefused: the authenticator refused.
	ReasonHandlerRefused Reason = "authenticator.refused"
	// ReasonMutation: the authenticator's answer broke the header policy.
	ReasonMutation Reason = "authenticator.invalid_answer"
	// ReasonBindingMissing: a 2xx without our contact.
	ReasonBindingMissing Reason = "binding.missing"
	// ReasonProof: a 2xx without the mutual authentication that is required.
	ReasonProof Reason = "proof.wrong"
	// ReasonForbidden: 403 or 6xx.
	ReasonForbidden Reason = "registrar.forbidden"
	// ReasonConfiguration: 404, 405, 410, 416, 482 to 485 and the like.
	ReasonConfiguration Reason = "registrar.configuration"
	// ReasonInterval: Min-Expires beyond the policy, missing, or raised too
	// often.
	ReasonInterval Reason = "interval.too_brief"
	// ReasonRedirect: a 3xx that leads nowhere we may go.
	ReasonRedirect Reason = "redirect.refused"
	// ReasonBusy: 408, 480, 486, 487, 491 and the like: later.
	ReasonBusy Reason = "registrar.busy"
	// ReasonServer: 5xx other than 503.
	ReasonServer Reason = "registrar.error"
	// ReasonUnavailable: 503.
	ReasonUnavailable Reason = "registrar.unavailable"
	// ReasonRequest: 400 and unknown 4xx.
	ReasonRequest Reason = "registrar.bad_request"
	// ReasonInterrupted: the node stopped while the attempt was open.
	ReasonInterrupted Reason = "interrupted"
)

// Reasons for which a session or one of its requests ends.
const (
	// ReasonHangup: our side ended it.
	ReasonHangup Reason = "hangup.local"
	// ReasonHangupAfter: its time is over.
	ReasonHangupAfter Reason = "hangup.after"
	// ReasonRemoteHangup: the peer sent BYE, or CANCEL.
	ReasonRemoteHangup Reason = "hangup.remote"
	// ReasonDeclined: a final response of 300 and above that no other reason
	// fits.
	ReasonDeclined Reason = "peer.declined"
	// ReasonPeerBusy: 486 or 600.
	ReasonPeerBusy Reason = "peer.busy"
	// ReasonNoAnswer: nobody picked up in time; 408, 480, 487.
	ReasonNoAnswer Reason = "peer.no_answer"
	// ReasonNotAdmitted: the registrar's pace or limit left no room in time.
	ReasonNotAdmitted Reason = "not_admitted"
	// ReasonSessionExpired: nobody refreshed the session (RFC 4028 §10).
	ReasonSessionExpired Reason = "session.expired"
	// ReasonRefreshFailed: the refresh was refused or got no answer.
	ReasonRefreshFailed Reason = "session.refresh_failed"
	// ReasonDialogGone: a response that ends the dialog (RFC 5057 §5.1).
	ReasonDialogGone Reason = "dialog.gone"
	// ReasonNoACK: our 2xx was never acknowledged (RFC 3261 §13.3.1.4).
	ReasonNoACK Reason = "ack.missing"
	// ReasonNoContact: a 2xx or INVITE without a usable Contact.
	ReasonNoContact Reason = "contact.missing"
	// ReasonGlare: 491 more often than is repeated.
	ReasonGlare Reason = "glare"
	// ReasonUntrusted: a challenge from where this profile's credentials must
	// not go (S-01, S-03).
	ReasonUntrusted Reason = "untrusted_target"
)

// Reasons for an input that changes nothing.
const (
	// DropStale: the input belongs to an older attempt.
	DropStale Reason = "stale"
	// DropIdle: nothing was waiting for it.
	DropIdle Reason = "unexpected"
	// DropEarly: a timer that is not due.
	DropEarly Reason = "early"
	// DropBusy: an attempt is open already.
	DropBusy Reason = "busy"
	// DropUnwanted: the profile does not want to be registered.
	DropUnwanted Reason = "unwanted"
)

// Reasons lists every reason that an event can carry.
func Reasons() []Reason {
	return append(RegistrationReasons(),
		ReasonHangup, ReasonHangupAfter, ReasonRemoteHangup, ReasonDeclined, ReasonPeerBusy,
		ReasonNoAnswer, ReasonNotAdmitted, ReasonSessionExpired, ReasonRefreshFailed,
		ReasonDialogGone, ReasonNoACK, ReasonNoContact, ReasonGlare, ReasonUntrusted)
}

// RegistrationReasons lists those that a profile's events can carry, for
// metrics that must exist at zero.
func RegistrationReasons() []Reason {
	return []Reason{
		ReasonTimeout, ReasonTransport, ReasonGuard, ReasonResolve, ReasonTooLarge,
		ReasonRejectedCredentials, ReasonAllowance, ReasonChallengeMissing,
		ReasonChallengeUnsupported, ReasonRealm, ReasonDowngrade, ReasonNoCredentials,
		ReasonHA1Mismatch, ReasonHandler, ReasonHandlerRefused, ReasonMutation,
		ReasonBindingMissing, ReasonProof, ReasonForbidden, ReasonConfiguration,
		ReasonInterval, ReasonRedirect, ReasonBusy, ReasonServer, ReasonUnavailable,
		ReasonRequest, ReasonInterrupted,
	}
}
