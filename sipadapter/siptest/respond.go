package siptest

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// answer is a response before it is written.
type answer struct {
	status  int
	reason  string
	headers []string // whole lines
	body    string
}

var reasons = map[int]string{
	100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 302: "Moved Temporarily",
	400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
	407: "Proxy Authentication Required", 408: "Request Timeout", 423: "Interval Too Brief",
	480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 500: "Server Internal Error",
	503: "Service Unavailable", 504: "Server Time-out",
}

// write assembles the response (RFC 3261 §8.2.6).
func (r *Registrar) write(req *Request, a answer) []byte {
	reason := a.reason
	if reason == "" {
		if reason = reasons[a.status]; reason == "" {
			reason = "Scripted"
		}
	}
	b := make([]byte, 0, 640)
	b = append(b, "SIP/2.0 "...)
	b = strconv.AppendInt(b, int64(a.status), 10)
	b = append(b, ' ')
	b = append(b, reason...)
	for i, via := range req.vias {
		if i == 0 {
			via = withSource(via, req.Source)
		}
		b = append(b, "\r\nVia: "...)
		b = append(b, via...)
	}
	b = append(b, "\r\nFrom: "...)
	b = append(b, req.from...)
	b = append(b, "\r\nTo: "...)
	b = append(b, req.to...)
	if _, tagged := parameter(req.to, "tag"); !tagged && a.status > 100 {
		b = append(b, ";tag="...)
		b = append(b, r.tag...)
	}
	b = append(b, "\r\nCall-ID: "...)
	b = append(b, req.CallID...)
	b = append(b, "\r\nCSeq: "...)
	b = append(b, req.cseq...)
	for _, line := range a.headers {
		b = append(b, "\r\n"...)
		b = append(b, line...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(a.body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, a.body...)
}

// withSource fills received and rport of the topmost Via (RFC 3581 §4).
func withSource(via, source string) string {
	if _, asked := parameter(splitList(via, ',')[0], "rport"); !asked {
		return via
	}
	addr, err := netip.ParseAddrPort(source)
	if err != nil {
		return via
	}
	filled := ";rport=" + strconv.Itoa(int(addr.Port())) + ";received=" + addr.Addr().String()
	top, rest, several := strings.Cut(via, ",")
	top = withoutRport(top) + filled
	if several {
		return top + "," + rest
	}
	return top
}

func withoutRport(via string) string {
	first, params, _ := strings.Cut(via, ";")
	return first + withoutParameter(";"+params, "rport")
}

// bad is a 400 that tells a developer what is wrong, and a violation.
func (r *Registrar) bad(req *Request, fault string) answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.count.Malformed++
	r.record.violate(req, "form: %s", fault)
	return answer{status: 400, headers: []string{`Warning: 399 siptest "` + fault + `"`}}
}

// decide is the registrar's own answer.
func (r *Registrar) decide(req *Request) answer {
	switch {
	case req.fault != nil:
		return r.bad(req, req.fault.Error())
	case req.Method == "OPTIONS":
		return answer{status: 200, headers: []string{"Allow: REGISTER, OPTIONS"}}
	case req.Method == "CANCEL":
		return answer{status: 481}
	case req.Method != "REGISTER":
		return answer{status: 405, headers: []string{"Allow: REGISTER, OPTIONS"}}
	case req.lowCSeq:
		// RFC 3261 §10.3 (7): the update is aborted and the request fails.
		return answer{status: 500, reason: "CSeq Not Higher"}
	}
	var info []string
	for _, g := range r.guards {
		lines, refusal := r.authenticate(req, g)
		if refusal.status != 0 {
			return refusal
		}
		info = append(info, lines...)
	}
	a := r.register(req)
	if a.status == 200 {
		a.headers = append(a.headers, info...)
	}
	return a
}

// authenticate lets a request pass with header lines for its 200, or refuses
// it.
func (r *Registrar) authenticate(req *Request, g guard) (info []string, refusal answer) {
	c, err := g.find(req)
	if err == nil && c != nil {
		err = r.checkForm(req, c)
	}
	switch {
	case err != nil:
		return nil, r.bad(req, err.Error())
	case c == nil:
		return nil, r.challenge(g, req.At, false)
	}
	p, right := r.checkResponse(req, c)
	switch {
	case !right && r.options.Forbid:
		r.bump(func(s *Snapshot) { s.Rejected++ })
		return nil, answer{status: 403}
	case !right:
		r.bump(func(s *Snapshot) { s.Rejected++ })
		return nil, r.challenge(g, req.At, false)
	case !r.fresh(c.params["nonce"], req.At):
		r.bump(func(s *Snapshot) { s.Stale++ })
		return nil, r.challenge(g, req.At, r.options.StaleFlag)
	case c.replayed && r.options.CheckNC:
		return nil, r.challenge(g, req.At, r.options.StaleFlag)
	}
	if r.options.AuthInfo {
		info = append(info, r.authInfo(g, p, req.At))
	}
	return info, answer{}
}

func (r *Registrar) bump(f func(*Snapshot)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.record.count)
}

// challenge asks for credentials, with one nonce for all algorithms.
func (r *Registrar) challenge(g guard, now time.Time, stale bool) answer {
	r.bump(func(s *Snapshot) { s.Challenges++ })
	nonce := r.newNonce(now)
	values := make([]string, len(r.options.Algorithms))
	for i, name := range r.options.Algorithms {
		values[i] = r.challengeValue(g.realm, name, nonce, stale)
	}
	header := g.challengeHeader() + ": "
	if r.options.OneLine {
		return answer{status: g.status(), headers: []string{header + strings.Join(values, ", ")}}
	}
	for i, v := range values {
		values[i] = header + v
	}
	return answer{status: g.status(), headers: values}
}

func (r *Registrar) challengeValue(realm, algorithm, nonce string, stale bool) string {
	b := make([]byte, 0, 200)
	b = append(b, `Digest realm="`...)
	for i := range len(realm) {
		if realm[i] == '"' || realm[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, realm[i])
	}
	b = append(b, `", nonce="`...)
	b = append(b, nonce...)
	b = append(b, `", opaque="`...)
	b = append(b, r.opaque...)
	b = append(b, '"')
	if r.options.QOP != "" {
		b = append(b, `, qop="`...)
		b = append(b, r.options.QOP...)
		b = append(b, '"')
	}
	if algorithm != "" {
		b = append(b, `, algorithm=`...)
		b = append(b, algorithm...)
	}
	if stale {
		b = append(b, `, stale=true`...)
	}
	return string(b)
}

// Challenge is a value for a scripted WWW-Authenticate header, with a nonce
// that the registrar will accept.
func (r *Registrar) Challenge(algorithm string, stale bool) string {
	return r.challengeValue(r.options.Realm, algorithm, r.newNonce(time.Now()), stale)
}

func (r *Registrar) authInfo(g guard, p proofs, now time.Time) string {
	header := "Authentication-Info: "
	if g.proxy {
		header = "Proxy-" + header
	}
	line := header + `nextnonce="` + r.newNonce(now) + `", rspauth="` + p.rspauth + `"`
	if p.qop != "" {
		line += `, qop=` + p.qop + `, cnonce="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.cnonce) + `", nc=` + p.nc
	}
	return line
}
