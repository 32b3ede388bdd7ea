package siptest

import (
	"strconv"
	"strings"
	"time"
)

// Binding is one contact of an address-of-record.
type Binding struct {
	// Contact is the URI as registered, Params what followed it, without
	// expires.
	Contact string
	Params  string
	Until   time.Time
	CallID  string
	CSeq    uint32
}

// aor is an address-of-record. Expired bindings are dropped when it is touched.
type aor struct {
	bindings []Binding
	// outstanding is the request that has no final answer yet, until then.
	outstanding      uint64
	outstandingUntil time.Time
}

func (a *aor) live(now time.Time) int {
	n := 0
	for _, b := range a.bindings {
		if b.Until.After(now) {
			n++
		}
	}
	return n
}

func (a *aor) expire(now time.Time) {
	kept := a.bindings[:0]
	for _, b := range a.bindings {
		if b.Until.After(now) {
			kept = append(kept, b)
		}
	}
	clear(a.bindings[len(kept):])
	a.bindings = kept
}

// remove drops a contact. URIs are compared as text: a client that writes its
// contact in two ways has two bindings here.
func (a *aor) remove(contact string) {
	kept := a.bindings[:0]
	for _, b := range a.bindings {
		if b.Contact != contact {
			kept = append(kept, b)
		}
	}
	clear(a.bindings[len(kept):])
	a.bindings = kept
}

// wanted is one contact of a request.
type wanted struct {
	contact, params string
	expires         uint32
}

// readContacts reads the Contact headers. star is true for "Contact: *".
func readContacts(req *Request) (list []wanted, star, ok bool) {
	for _, header := range req.contacts {
		for _, value := range splitList(header, ',') {
			value = strings.TrimSpace(value)
			if value == "*" {
				star = true
				continue
			}
			uri, params := nameAddr(value)
			if uri == "" || len(list) == maxContacts {
				return nil, false, false
			}
			w := wanted{contact: uri, params: withoutParameter(params, "expires")}
			w.expires = readExpires(req.expires, defaultExpires)
			if v, present := parameter(params, "expires"); present {
				w.expires = readExpires(v, defaultExpires)
			}
			list = append(list, w)
		}
	}
	return list, star, !star || len(list) == 0 && req.expires == "0"
}

// readExpires takes an absent or malformed value as the default (RFC 3261
// §10.2).
func readExpires(value string, otherwise uint32) uint32 {
	if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
		return uint32(n)
	}
	return otherwise
}

func withoutParameter(params, name string) string {
	var b strings.Builder
	for i, part := range splitList(params, ';') {
		key, _, _ := strings.Cut(part, "=")
		if i > 0 && !strings.EqualFold(strings.TrimSpace(key), name) {
			b.WriteByte(';')
			b.WriteString(strings.TrimSpace(part))
		}
	}
	return b.String()
}

// register changes the location table (RFC 3261 §10.3 steps 6 to 8) and makes
// the answer.
func (r *Registrar) register(req *Request) answer {
	list, star, ok := readContacts(req)
	if !ok {
		return r.bad(req, "contacts")
	}
	for _, w := range list {
		if w.expires != 0 && w.expires < r.options.MinExpires {
			r.mu.Lock()
			r.record.count.TooBrief++
			r.mu.Unlock()
			return answer{status: 423, headers: []string{"Min-Expires: " + strconv.FormatUint(uint64(r.options.MinExpires), 10)}}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.count.Accepted++
	a := r.aorOf(req.AOR)
	a.expire(req.At)
	if star {
		a.bindings = nil
	}
	for _, w := range list {
		a.remove(w.contact)
		if w.expires == 0 || len(a.bindings) == maxContacts {
			continue
		}
		a.bindings = append(a.bindings, Binding{
			Contact: w.contact, Params: w.params, CallID: req.CallID, CSeq: req.CSeq,
			Until: req.At.Add(time.Duration(r.grant(w.expires)) * time.Second),
		})
	}
	return answer{status: 200, headers: r.contactLines(a, req.At)}
}

func (r *Registrar) grant(expires uint32) uint32 {
	if r.options.GrantExpires != 0 {
		return r.options.GrantExpires
	}
	if limit := r.options.MaxExpires; limit != 0 {
		return min(expires, limit)
	}
	return expires
}

func (r *Registrar) contactLines(a *aor, now time.Time) []string {
	lines := make([]string, 0, len(a.bindings)+len(r.options.Headers)+1)
	for _, b := range a.bindings {
		left := int64(b.Until.Sub(now).Round(time.Second) / time.Second)
		lines = append(lines, "Contact: <"+b.Contact+">"+b.Params+";expires="+strconv.FormatInt(left, 10))
	}
	return append(lines, r.options.Headers...)
}

// aorOf needs the lock.
func (r *Registrar) aorOf(name string) *aor {
	a := r.aors[name]
	if a == nil {
		a = &aor{}
		r.aors[name] = a
	}
	return a
}

// Bindings returns the contacts of an address-of-record ("sip:alice@host", host
// in lower case) that have not expired, oldest registration first.
func (r *Registrar) Bindings(aorURI string) []Binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.aors[aorURI]
	if a == nil {
		return nil
	}
	a.expire(time.Now())
	return append([]Binding(nil), a.bindings...)
}
