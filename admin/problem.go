package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// problem makes an RFC 9457 problem.
func problem(status int, detail string, parts ...*huma.ErrorDetail) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail, Errors: parts}
}

// writeProblem answers with a problem outside of the API's own handlers.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// The write fails only when the caller is gone.
	_ = json.NewEncoder(w).Encode(problem(status, detail))
}

// faultProblem turns what is wrong with a body into a problem: 400 when it
// could not be read, 422 when it was read and found wrong.
func faultProblem(faults declare.Faults) *huma.ErrorModel {
	status := http.StatusUnprocessableEntity
	if faults.Syntax() {
		status = http.StatusBadRequest
	}
	parts := make([]*huma.ErrorDetail, len(faults))
	for i, f := range faults {
		location := "body"
		if f.Field != "" {
			location += "." + f.Field
		}
		message := f.What
		if f.Mend != "" {
			message += " (" + f.Mend + ")"
		}
		parts[i] = &huma.ErrorDetail{Location: location, Message: message}
	}
	return problem(status, faults.Error(), parts...)
}

// nodeProblem turns an error of the node into a problem. Errors hold no secret
// by rule 2 of the design, so their text may be shown.
func (s *Server) nodeProblem(err error) error {
	if fault, ok := sessionFault(err); ok {
		return faultProblem(declare.Faults{fault})
	}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, actors.ErrNotFound), errors.Is(err, actors.ErrNoSession):
		status = http.StatusNotFound
	case errors.Is(err, actors.ErrExists), errors.Is(err, actors.ErrBusy), errors.Is(err, actors.ErrSessionState):
		status = http.StatusConflict
	case errors.Is(err, actors.ErrInvalid), errors.Is(err, actors.ErrInvalidSession):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, actors.ErrSessionLimit):
		status = http.StatusTooManyRequests
	case errors.Is(err, actors.ErrStarting), errors.Is(err, actors.ErrStopping), errors.Is(err, actors.ErrStoreFailed):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		status = http.StatusGatewayTimeout
	}
	if status == http.StatusInternalServerError {
		s.log.Error("request failed", "error", err)
	}
	return problem(status, err.Error())
}

// sessionFault finds the field that the node found wrong in a request for a
// session: it says "invalid session request: target: is too long".
func sessionFault(err error) (declare.Fault, bool) {
	if !errors.Is(err, actors.ErrInvalidSession) {
		return declare.Fault{}, false
	}
	field, what, found := strings.Cut(strings.TrimPrefix(err.Error(), actors.ErrInvalidSession.Error()+": "), ": ")
	if !found || strings.Trim(field, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return declare.Fault{}, false
	}
	return declare.Fault{Field: field, What: what}, true
}
