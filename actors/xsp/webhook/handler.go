package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// maxQuestion is the largest request that Handler reads.
const maxQuestion = 64 << 10

// HandlerOptions configure a Handler.
type HandlerOptions struct {
	// Skew is how far the node's clock may be from this one; 0 means
	// DefaultSkew.
	Skew time.Duration
	// Logger hears of requests that are turned away and of questions without an
	// answer; nil means nobody does.
	Logger *slog.Logger
}

type handler struct {
	secret messages.Secret
	asked  xsp.Authenticator
	skew   time.Duration
	log    *slog.Logger
	seen   *sightings
}

// Handler serves an Authenticator to the webhooks of nodes that know the
// secret; without a secret it serves nobody. A question is passed on once: the
// signature is checked first, and a ref that was seen before is refused with
// 409, within bounded memory. The context of Answer ends at the question's
// deadline or when the node gives up.
//
// Refusals are answers, with status 200. Any other error of Answer is status
// 503 without a body, which the node counts as no answer, and is logged.
//
// The http.Server around it needs its own time limits (ReadHeaderTimeout and
// ReadTimeout) and, but on a loopback address, TLS.
func Handler(secret messages.Secret, a xsp.Authenticator, o HandlerOptions) http.Handler {
	if o.Skew <= 0 {
		o.Skew = DefaultSkew
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &handler{
		secret: secret, asked: a, skew: o.Skew, log: o.Logger.With("component", "webhook"),
		seen: newSightings(o.Skew, remembered),
	}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, fault := h.question(r)
	if fault != nil {
		h.log.Warn("request turned away", "status", fault.status, "reason", fault.reason)
		if fault.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		http.Error(w, fault.reason, fault.status)
		return
	}
	ctx, cancel := context.WithDeadline(r.Context(), q.GetDeadline().AsTime())
	defer cancel()
	a, err := h.asked.Answer(ctx, q)
	reply, ok := xsp.Pack(q, a, err)
	if !ok {
		if err == nil {
			err = errors.New("it returned no answer and no error")
		}
		h.log.Warn("question without an answer", "profile", xsp.Printable(q.GetProfileId()), "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := protojson.Marshal(reply)
	if err != nil {
		// The error names the field and not its value.
		h.log.Error("answer cannot be encoded", "profile", xsp.Printable(q.GetProfileId()), "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a node that is gone has no answer to lose
}

// fault is why a request is turned away; its text is for both sides.
type fault struct {
	status int
	reason string
}

// question reads the request. Nothing in it is looked at before the signature
// has been checked.
func (h *handler) question(r *http.Request) (*messages.AuthChallenge, *fault) {
	if r.Method != http.MethodPost {
		return nil, &fault{http.StatusMethodNotAllowed, "questions are sent with POST"}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQuestion+1))
	switch {
	case err != nil:
		return nil, &fault{http.StatusBadRequest, "the request ends early"}
	case len(body) > maxQuestion:
		return nil, &fault{http.StatusRequestEntityTooLarge, "the request has more than 64 KiB"}
	}
	headers := r.Header.Values(SignatureHeader)
	if len(headers) != 1 {
		return nil, &fault{http.StatusUnauthorized, ErrSignature.Error() + ": there must be one"}
	}
	now := time.Now()
	signed, err := verify(h.secret, headers[0], body, now, h.skew)
	if err != nil {
		return nil, &fault{http.StatusUnauthorized, err.Error()}
	}
	q := new(messages.AuthChallenge)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, q); err != nil {
		return nil, &fault{http.StatusBadRequest, "the request is not the JSON of a question"}
	}
	if q.GetRef() == "" || q.GetDeadline() == nil {
		return nil, &fault{http.StatusBadRequest, "the question has no ref or no deadline"}
	}
	if !h.seen.fresh(q.GetRef(), signed, now) {
		return nil, &fault{http.StatusConflict, "the question was asked before"}
	}
	return q, nil
}
