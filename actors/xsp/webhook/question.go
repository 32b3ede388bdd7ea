package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/messages"
)

// question is AuthChallenge as JSON. It is spelled out because protojson varies
// its white space on purpose and either leaves out what is empty or writes
// empty maps. protojson reads it back to the same message.
type question struct {
	Ref        string            `json:"ref"`
	Purpose    string            `json:"purpose"`
	ProfileID  string            `json:"profileId"`
	SessionID  string            `json:"sessionId"`
	AOR        string            `json:"aor"`
	Method     string            `json:"method"`
	RequestURI string            `json:"requestUri"`
	StatusCode uint32            `json:"statusCode"`
	Round      uint32            `json:"round"`
	Rejected   bool              `json:"rejected"`
	Deadline   *string           `json:"deadline"`
	Challenges []challenge       `json:"challenges"`
	BodyHashes map[string]string `json:"bodyHashes,omitempty"`
}

type challenge struct {
	Index      uint32            `json:"index"`
	Space      string            `json:"space"`
	Scheme     string            `json:"scheme"`
	Realm      string            `json:"realm"`
	NonceCount uint32            `json:"nonceCount"`
	Params     map[string]string `json:"params"`
	Raw        string            `json:"raw"`
}

// encode is the body of the POST.
func encode(q *messages.AuthChallenge) ([]byte, error) {
	deadline, err := timestamp(q.GetDeadline())
	if err != nil {
		return nil, err
	}
	challenges := make([]challenge, len(q.GetChallenges()))
	for i, c := range q.GetChallenges() {
		challenges[i] = challenge{
			Index: c.GetIndex(), Space: c.GetSpace().String(), Scheme: c.GetScheme(), Realm: c.GetRealm(),
			NonceCount: c.GetNonceCount(), Params: c.GetParams(), Raw: c.GetRaw(),
		}
		if challenges[i].Params == nil {
			challenges[i].Params = map[string]string{}
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(question{
		Ref: q.GetRef(), Purpose: q.GetPurpose().String(), ProfileID: q.GetProfileId(), SessionID: q.GetSessionId(),
		AOR: q.GetAor(), Method: q.GetMethod(), RequestURI: q.GetRequestUri(), StatusCode: q.GetStatusCode(),
		Round: q.GetRound(), Rejected: q.GetRejected(), Deadline: deadline, Challenges: challenges,
		BodyHashes: q.GetBodyHashes(),
	}); err != nil {
		return nil, fmt.Errorf("encode the question: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// timestamp spells a time as the contract shows it: RFC 3339 in UTC, in whole
// seconds, which every language can read. It is rounded up, so that a server
// does not give up before the node does.
func timestamp(at *timestamppb.Timestamp) (*string, error) {
	if at == nil {
		return nil, nil
	}
	if err := at.CheckValid(); err != nil {
		return nil, fmt.Errorf("encode the deadline: %w", err)
	}
	const last = 253402300799 // the end of the year 9999, beyond which there is no spelling
	seconds := at.GetSeconds()
	if at.GetNanos() > 0 && seconds < last {
		seconds++
	}
	text := time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	return &text, nil
}
