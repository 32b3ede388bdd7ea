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

// timestamp spells a time as protojson does: RFC 3339 in UTC with 0, 3, 6 or 9
// digits after the point, which every language's parser takes.
func timestamp(at *timestamppb.Timestamp) (*string, error) {
	if at == nil {
		return nil, nil
	}
	if err := at.CheckValid(); err != nil {
		return nil, fmt.Errorf("encode the deadline: %w", err)
	}
	layout := "2006-01-02T15:04:05.000000000Z"
	switch nanos := at.GetNanos(); {
	case nanos == 0:
		layout = time.RFC3339
	case nanos%1e6 == 0:
		layout = "2006-01-02T15:04:05.000Z"
	case nanos%1e3 == 0:
		layout = "2006-01-02T15:04:05.000000Z"
	}
	text := at.AsTime().Format(layout)
	return &text, nil
}
