package session

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/messages"
)

// negotiated is a session timer (RFC 4028) as events record it.
type negotiated struct {
	seconds              uint32
	ours                 bool
	refreshAt, expiresAt int64
}

// timerOf is what a peer says of session timers. What it said before of UPDATE
// holds until it says something else.
func timerOf(expires, minSE uint32, refresher string, supported, allow []string, before *messages.PeerTimer) *messages.PeerTimer {
	t := &messages.PeerTimer{SessionExpires: expires, MinSe: minSE, Refresher: refresher}
	t.Supported = slices.ContainsFunc(supported, func(tag string) bool { return strings.EqualFold(tag, "timer") })
	t.Update = before.GetUpdate()
	if len(allow) > 0 {
		t.Update = slices.Contains(allow, "UPDATE")
	}
	return t
}

// agreed is the timer after a 2xx to a request of ours: without Session-Expires
// there is none (RFC 4028 §7.2).
func (st *step) agreed(t *messages.PeerTimer) negotiated {
	if t.GetSessionExpires() == 0 {
		return negotiated{}
	}
	return st.negotiated(time.Duration(t.GetSessionExpires())*time.Second, t.GetRefresher() != "uas")
}

// granted is the timer that our 2xx to a request of the peer sets, and the
// header lines that say so (RFC 4028 §9).
func (st *step) granted(t *messages.PeerTimer, first bool) (negotiated, []messages.Header) {
	interval := time.Duration(t.GetSessionExpires()) * time.Second
	refresher := t.GetRefresher()
	switch {
	case interval == 0 && !(first && t.GetSupported()):
		return negotiated{}, nil
	case interval == 0:
		if interval = st.policy.interval(t.GetMinSe()); interval == 0 {
			return negotiated{}, nil
		}
		refresher = "uac"
	case refresher == "" && t.GetSupported():
		refresher = "uac"
	case refresher == "":
		refresher = "uas" // it does not know how
	}
	headers := []messages.Header{{Name: "Session-Expires", Value: strconv.Itoa(int(interval/time.Second)) + ";refresher=" + refresher}}
	if refresher == "uac" {
		headers = append(headers, messages.Header{Name: "Require", Value: "timer"})
	}
	return st.negotiated(interval, refresher == "uas"), headers
}

// negotiated sets the two times: the refresh at half the interval, but never
// sooner than half of the shortest interval that RFC 4028 §4 allows, so that no
// peer can make us send a storm (TMR-05); and the end, a little before the
// interval is over (RFC 4028 §10).
func (st *step) negotiated(interval time.Duration, ours bool) negotiated {
	n := negotiated{seconds: seconds(interval), ours: ours}
	interval = max(interval, minInterval)
	if ours {
		n.refreshAt = st.after(interval / 2)
	}
	n.expiresAt = st.after(interval - min(transactionLimit, interval/3))
	return n
}

// tooShort tells whether a peer asks for an interval below our minimum, and is
// able to ask for a longer one (RFC 4028 §9).
func (st *step) tooShort(info messages.DialogInfo) bool {
	least := st.policy.minSE()
	return info.SessionExpires > 0 && time.Duration(info.SessionExpires)*time.Second < least &&
		slices.ContainsFunc(info.Supported, func(tag string) bool { return strings.EqualFold(tag, "timer") })
}

func (st *step) minSEHeader() []messages.Header {
	return []messages.Header{{Name: "Min-SE", Value: strconv.Itoa(int(st.policy.minSE() / time.Second))}}
}
