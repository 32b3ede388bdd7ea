package sipadapter

import "strings"

// echo is what a server copies of a usual REGISTER into its response (RFC 3261
// §8.2.6.2). Nearly all copy it byte for byte, and then there is nothing to
// parse.
type echo struct {
	tx       *transaction
	from, to string
}

// in tells whether a response that scan has read has the same Via, From, To,
// Call-ID and CSeq, each once. False means only that match has to look closer.
func (e echo) in(m *message) bool {
	var via, from, to, callID, cseq int
	for i := range m.fields {
		f := &m.fields[i]
		same := true
		switch f.name {
		case "via":
			via++
			same = e.via(f.value)
		case "from":
			from++
			rest, ok := cutBracketed(f.value, e.from)
			tag, tagged := strings.CutPrefix(rest, ";tag=")
			same = ok && tagged && tag == e.tx.fromTag
		case "to":
			to++
			rest, ok := cutBracketed(f.value, e.to)
			same = ok && (rest == "" || rest[0] == ';' && strings.IndexByte(rest, '"') < 0)
		case "call-id":
			callID++
			same = f.value == e.tx.callID
		case "cseq":
			cseq++
			number, ok := strings.CutSuffix(f.value, " REGISTER")
			n, digits := parseDigits(number, 1<<31-1)
			same = ok && digits && uint32(n) == e.tx.cseq
		}
		if !same {
			return false
		}
	}
	return via == 1 && from == 1 && to == 1 && callID == 1 && cseq == 1
}

// via compares the only Via, to which a server may add parameters.
func (e echo) via(value string) bool {
	value, ok := strings.CutPrefix(value, "SIP/2.0/UDP ")
	if !ok {
		return false
	}
	if value, ok = strings.CutPrefix(value, e.tx.sentBy.host); !ok || value == "" || value[0] != ':' {
		return false
	}
	port, value, ok := strings.Cut(value[1:], ";branch=")
	if n, digits := parseDigits(port, 65_535); !ok || !digits || n != uint64(e.tx.sentBy.port) {
		return false
	}
	if len(value) < branchLength {
		return false
	}
	if k, ok := parseBranch(value[:branchLength]); !ok || k != e.tx.key {
		return false
	}
	rest := value[branchLength:]
	return rest == "" || rest[0] == ';' && strings.IndexByte(rest, ',') < 0
}

// cutBracketed gives what follows a URI in angle brackets.
func cutBracketed(value, uri string) (string, bool) {
	n := len(uri)
	if len(value) < n+2 || value[0] != '<' || value[n+1] != '>' || value[1:n+1] != uri {
		return "", false
	}
	return value[n+2:], true
}
