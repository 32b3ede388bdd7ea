package declare

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// Bounds of what a caller adds to a request of a session, those of the node: a
// message has to fit with all the rest into 64 KiB.
const (
	maxHeaders     = 32
	maxHeaderName  = 64
	maxHeaderValue = 4 << 10
	maxSIPBody     = 48 << 10
)

// sdp is the body that INVITE and UPDATE carry unless somebody says otherwise
// (RFC 3261 §13.2.1, RFC 3311 §5.1).
const sdp = "application/sdp"

// SessionMethods lists the requests that can be made inside a session, besides
// the re-INVITE.
func SessionMethods() []string {
	return []string{"INFO", "REFER", "UPDATE", "MESSAGE", "NOTIFY", "OPTIONS"}
}

// SessionJSON reads the body of POST /sessions. Its faults repeat no value of a
// header and nothing of the body.
func SessionJSON(document []byte) (actors.SessionRequest, Faults) {
	r := readRequest(document, "profile", "target", "headers", "body", "body_base64", "content_type", "hangup_after")
	if r.faults.Syntax() {
		return actors.SessionRequest{}, r.faults
	}
	r.require("profile", "name the profile that calls")
	r.require("target", "write sip:user@host")
	r.describe("INVITE")
	return actors.SessionRequest{
		Profile: r.profile, Target: r.target, Headers: r.headers,
		ContentType: r.contentType, Body: r.body, HangupAfter: r.hangupAfter,
	}, r.faults
}

// ReinviteJSON reads the body of POST /sessions/{id}/reinvite. A session
// description is required: without one the peer would make the offer, and its
// answer would be due in the ACK, which this API cannot give.
func ReinviteJSON(document []byte) (actors.InDialog, Faults) {
	r := readRequest(document, "headers", "body", "body_base64", "content_type")
	r.method = "INVITE"
	if !r.faults.Syntax() && !slices.Contains(r.given, "body_base64") {
		r.require("body", "give the new session description")
	}
	return r.inDialog()
}

// InDialogJSON reads the body of POST /sessions/{id}/requests.
func InDialogJSON(document []byte) (actors.InDialog, Faults) {
	r := readRequest(document, "method", "headers", "body", "body_base64", "content_type")
	if !r.faults.Syntax() {
		r.require("method", "one of "+strings.Join(SessionMethods(), ", "))
	}
	return r.inDialog()
}

func (r *request) inDialog() (actors.InDialog, Faults) {
	if r.faults.Syntax() {
		return actors.InDialog{}, r.faults
	}
	r.describe(r.method)
	return actors.InDialog{Method: r.method, Headers: r.headers, ContentType: r.contentType, Body: r.body}, r.faults
}

// request is a request of a session while it is read.
type request struct {
	faults Faults
	// given names the fields that hold something, right or wrong.
	given []string

	profile, target, method string
	headers                 []messages.Header
	contentType             string
	body                    []byte
	hangupAfter             time.Duration
}

func readRequest(document []byte, names ...string) *request {
	r := &request{}
	r.faults.readObject(document, names, func(in *json.Decoder, i int) error {
		if i >= 0 && names[i] == "headers" {
			return r.readHeaders(in)
		}
		token, err := value(in)
		if err != nil || i < 0 {
			return err
		}
		r.set(names[i], token)
		return nil
	})
	return r
}

// set takes the value of a field; an empty text is as good as none.
func (r *request) set(name string, token json.Token) {
	if seconds, ok := token.(json.Number); ok && name == "hangup_after" {
		r.setHangupAfter(seconds.String())
		return
	}
	text, ok := token.(string)
	if !ok {
		want := "a string"
		if name == "hangup_after" {
			want = "a number of seconds or a string such as \"10s\""
		}
		r.given = append(r.given, name)
		r.faults.add(name, "must be "+want, "")
		return
	}
	if text == "" {
		return
	}
	if name == "hangup_after" {
		r.setHangupAfter(text)
		return
	}
	r.given = append(r.given, name)
	var fault *Fault
	switch name {
	case "profile":
		fault = setID(&actors.Declaration{}, text)
		r.profile = text
	case "target":
		fault = checkTarget(text)
		r.target = text
	case "method":
		if !slices.Contains(SessionMethods(), text) {
			fault = &Fault{What: "is not a request that can be made inside a session", Mend: "one of " + strings.Join(SessionMethods(), ", ")}
		}
		r.method = text
	case "content_type":
		fault = checkContentType(text)
		r.contentType = text
	case "body":
		fault = r.setBody([]byte(text))
	case "body_base64":
		content, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			fault = &Fault{What: "is not base64", Mend: "write the standard alphabet with padding, RFC 4648 §4"}
			break
		}
		fault = r.setBody(content)
	}
	if fault != nil {
		r.faults.add(name, fault.What, fault.Mend)
	}
}

func (r *request) setBody(content []byte) *Fault {
	if len(content) > maxSIPBody {
		return &Fault{What: "is longer than " + strconv.Itoa(maxSIPBody) + " bytes"}
	}
	r.body = content
	return nil
}

func (r *request) setHangupAfter(text string) {
	const mend = "write seconds, or a duration such as \"10s\""
	after, err := Duration(text)
	if seconds, wrong := strconv.ParseFloat(text, 64); err != nil && wrong == nil && math.Abs(seconds) < math.MaxInt32 {
		after, err = time.Duration(seconds*float64(time.Second)), nil // 0.5
	}
	switch {
	case err != nil:
		r.faults.add("hangup_after", err.Error(), mend)
	case after < 0:
		r.faults.add("hangup_after", "is negative", mend)
	case after > 0 && after < time.Millisecond:
		r.faults.add("hangup_after", "is shorter than a millisecond", mend)
	}
	r.hangupAfter = after
}

// require adds a fault when a field holds nothing.
func (r *request) require(name, mend string) {
	if !slices.Contains(r.given, name) {
		r.faults.add(name, "is missing", mend)
	}
}

// describe settles the body of a request and its type.
func (r *request) describe(method string) {
	text, binary := slices.Contains(r.given, "body"), slices.Contains(r.given, "body_base64")
	typed := slices.Contains(r.given, "content_type")
	switch {
	case text && binary:
		r.faults.add("body_base64", "stands beside a body", "give one of the two")
	case typed && !text && !binary:
		r.faults.add("content_type", "stands without a body", "")
	case typed || !text && !binary:
	case method == "INVITE", method == "UPDATE":
		r.contentType = sdp
	default:
		r.faults.add("content_type", "is missing", "only INVITE and UPDATE have a usual one, "+sdp)
	}
}

// readHeaders reads {"Name":"value","Other":["one","two"]} in its order. The
// node knows which names the stack writes itself.
func (r *request) readHeaders(in *json.Decoder) error {
	const name = "headers"
	token, err := in.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		r.faults.add(name, "must be an object of names and values", "")
		if token == json.Delim('[') {
			return skip(in)
		}
		return nil
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return err
		}
		header, _ := key.(string) // a key is always a string
		if err := r.readHeader(in, header); err != nil {
			return err
		}
	}
	if len(r.headers) > maxHeaders {
		r.faults.add(name, "has more than "+strconv.Itoa(maxHeaders)+" lines", "")
	}
	_, err = in.Token()
	return err
}

// readHeader reads the value of one header, or its list of values.
func (r *request) readHeader(in *json.Decoder, name string) error {
	token, err := in.Token()
	if err != nil {
		return err
	}
	values := []json.Token{token}
	switch token {
	case json.Delim('['):
		values = nil
		for in.More() {
			v, err := value(in)
			if err != nil {
				return err
			}
			values = append(values, v)
		}
		if _, err := in.Token(); err != nil {
			return err
		}
	case json.Delim('{'):
		if err := skip(in); err != nil {
			return err
		}
	}
	if !isToken(name) || len(name) > maxHeaderName {
		// Whoever mixes up name and value has written a value there.
		r.faults.add("headers", "a name is not that of a header", "at most "+strconv.Itoa(maxHeaderName)+" characters of RFC 3261 §25.1, token")
		return nil
	}
	for _, v := range values {
		text, ok := v.(string)
		text = strings.Trim(text, " \t")
		what := headerValue(text)
		if !ok {
			what = "must be a string or a list of strings"
		}
		if what != "" {
			r.faults.add("headers."+name, what, "")
			return nil
		}
		r.headers = append(r.headers, messages.Header{Name: name, Value: text})
	}
	return nil
}

// headerValue tells what is wrong with the value of a header, or "" (S-51).
func headerValue(text string) string {
	if len(text) > maxHeaderValue {
		return "is longer than " + strconv.Itoa(maxHeaderValue) + " bytes"
	}
	if text == "" {
		return "is empty"
	}
	return plainText(strings.ReplaceAll(text, "\t", " "), maxHeaderValue)
}

// checkTarget accepts what an INVITE can be sent to.
func checkTarget(text string) *Fault {
	const mend = "write sip:user@host"
	u, err := ParseURI(text)
	switch {
	case err != nil && u.Scheme == "":
		return &Fault{What: err.Error(), Mend: mend}
	case err != nil:
		return &Fault{What: Show(text) + " " + err.Error(), Mend: mend}
	case u.Scheme == "sips":
		return &Fault{What: Show(text) + " needs TLS, which this release does not offer", Mend: mend}
	case u.Password:
		return &Fault{What: Show(text) + " carries a password", Mend: "remove it"}
	case u.Headers: // S-54
		return &Fault{What: Show(text) + " has a header part", Mend: "remove the ? and what follows; headers have a field of their own"}
	}
	return nil
}

// checkContentType accepts a media type with parameters (RFC 3261 §20.15).
func checkContentType(text string) *Fault {
	media, params, _ := strings.Cut(text, ";")
	kind, subtype, found := strings.Cut(strings.TrimRight(media, " \t"), "/")
	if !found || !isToken(kind) || !isToken(subtype) || len(text) > maxText || !utf8.ValidString(params) || plainText(params, maxText) != "" {
		return &Fault{What: "is not a media type", Mend: "write type/subtype, such as " + sdp}
	}
	return nil
}

// isToken is the token of RFC 3261 §25.1.
func isToken(text string) bool {
	for i := range len(text) {
		if !isAlnum(text[i]) && strings.IndexByte("-.!%*_+`'~", text[i]) < 0 {
			return false
		}
	}
	return text != ""
}
