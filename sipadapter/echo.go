package sipadapter

import (
	"strconv"
	"strings"
)

// echoed tells whether a response that scan has read has the Via, From, To, Call-ID
// and CSeq of a usual REGISTER, each once. Nearly all servers copy them byte for byte
// (RFC 3261 §8.2.6.2), and then there is nothing to parse.
func (x *attempt) echoed(m *message) bool {
	r := x.exchange.req
	var via, from, to, callID, cseq int
	for i := range m.fields {
		f := &m.fields[i]
		same := true
		switch f.name {
		case "via":
			via++
			same = x.wrote(f.value)
		case "from":
			from++
			rest, ok := cutBracketed(f.value, r.From)
			tag, tagged := strings.CutPrefix(rest, ";tag=")
			same = ok && tagged && tag == r.FromTag
		case "to":
			to++
			rest, ok := cutBracketed(f.value, r.To)
			same = ok && (rest == "" || rest[0] == ';' && strings.IndexByte(rest, '"') < 0)
		case "call-id":
			callID++
			same = f.value == r.CallID
		case "cseq":
			cseq++
			same = x.counted(f.value)
		}
		if !same {
			return false
		}
	}
	return via == 1 && from == 1 && to == 1 && callID == 1 && cseq == 1
}

// wrote compares the only Via, to which a server may add parameters.
func (x *attempt) wrote(value string) bool {
	var room [len(";branch=") + branchLength]byte
	branch := x.key.appendTo(append(room[:0], ";branch="...))
	rest, ok := strings.CutPrefix(value, x.exchange.reach.sent)
	if !ok || len(rest) < len(branch) || rest[:len(branch)] != string(branch) {
		return false
	}
	rest = rest[len(branch):]
	return rest == "" || rest[0] == ';' && strings.IndexByte(rest, ',') < 0
}

// counted compares the CSeq.
func (x *attempt) counted(value string) bool {
	var room [len("2147483647 REGISTER")]byte
	return value == string(append(strconv.AppendUint(room[:0], uint64(x.cseq), 10), " REGISTER"...))
}

// cutBracketed gives what follows a URI in angle brackets.
func cutBracketed(value, uri string) (string, bool) {
	n := len(uri)
	if len(value) < n+2 || value[0] != '<' || value[n+1] != '>' || value[1:n+1] != uri {
		return "", false
	}
	return value[n+2:], true
}
