package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// exportPage is how many profiles the export asks of the node at a time.
const exportPage = 1000

type (
	importInput struct {
		bodyInput
		DryRun bool `query:"dry_run" doc:"tell what would happen, change nothing"`
	}
	exportInput struct {
		State     string `query:"state" enum:"registered,registering,challenged,backoff,rejected,disabled,unregistered"`
		Registrar string `query:"registrar"`
		Q         string `query:"q" doc:"part of the id or the AOR"`
	}
	importOutput struct {
		Body struct {
			DryRun    bool                  `json:"dry_run"`
			Added     int                   `json:"added"`
			Changed   int                   `json:"changed"`
			Unchanged int                   `json:"unchanged"`
			Invalid   int                   `json:"invalid"`
			Results   []actors.ImportResult `json:"results" doc:"one for each declaration, in the same order"`
		}
	}
)

func (s *Server) bulkRoutes(api huma.API) {
	register(s, api, route{
		method: "POST", path: "/profiles/import", role: RoleAdmin, body: []declaration{},
		summary: "Add or change up to 5,000 profiles; the same again changes nothing",
	}, s.importProfiles)
	register(s, api, route{
		method: "GET", path: "/profiles/export", role: RoleRead,
		summary: "All declarations as JSON lines, without secrets", streams: "application/x-ndjson", item: declaration{},
	}, s.exportProfiles)
}

func (s *Server) importProfiles(ctx context.Context, in *importInput) (*importOutput, error) {
	body, err := in.read(maxImportBody)
	if err != nil {
		return nil, err
	}
	documents, err := splitArray(body)
	if err != nil {
		return nil, err
	}
	out := &importOutput{}
	b := &out.Body
	b.DryRun = in.DryRun
	b.Results = make([]actors.ImportResult, len(documents))
	var good []actors.Declaration
	var places []int
	seen := map[string]bool{}
	for i, document := range documents {
		d, faults := declare.JSON(document)
		if len(faults) == 0 && seen[d.ID] {
			faults = declare.Faults{{Field: "id", What: "stands twice in this request"}}
		}
		if len(faults) > 0 {
			b.Results[i] = actors.ImportResult{ID: d.ID, Result: actors.ResultInvalid, Error: faults.Error()}
			continue
		}
		seen[d.ID] = true
		good = append(good, d)
		places = append(places, i)
	}
	if len(good) > 0 {
		results := s.options.Node.ImportProfiles(ctx, good, in.DryRun)
		if len(results) != len(good) {
			return nil, s.nodeProblem(fmt.Errorf("import: %d results for %d declarations", len(results), len(good)))
		}
		for i, place := range places {
			b.Results[place] = results[i]
		}
	}
	for _, r := range b.Results {
		switch r.Result {
		case actors.ResultAdded:
			b.Added++
		case actors.ResultChanged:
			b.Changed++
		case actors.ResultUnchanged:
			b.Unchanged++
		default:
			b.Invalid++
		}
	}
	if !in.DryRun {
		s.log.Info("profiles imported", "caller", callerOf(ctx),
			"added", b.Added, "changed", b.Changed, "unchanged", b.Unchanged, "invalid", b.Invalid)
	}
	return out, nil
}

// splitArray takes a JSON array apart without reading its elements. Its errors
// name the place and show nothing of the text.
func splitArray(body []byte) ([]json.RawMessage, error) {
	in := json.NewDecoder(bytes.NewReader(body))
	broken := func() error {
		return problem(http.StatusBadRequest, "the body is not a valid JSON array, at "+declare.Position(body, in.InputOffset()))
	}
	if open, err := in.Token(); err != nil || open != json.Delim('[') {
		return nil, problem(http.StatusBadRequest, "the body must be a JSON array of declarations")
	}
	var documents []json.RawMessage
	for in.More() {
		if len(documents) == maxImport {
			return nil, problem(http.StatusRequestEntityTooLarge, "the array has more than 5,000 declarations; send them in parts")
		}
		var document json.RawMessage
		if err := in.Decode(&document); err != nil {
			return nil, broken()
		}
		documents = append(documents, document)
	}
	if _, err := in.Token(); err != nil {
		return nil, broken()
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, broken()
	}
	return documents, nil
}

// exportProfiles streams, page by page, so that memory does not grow with the
// number of profiles. After the first byte an error can only cut the stream
// off, which HTTP shows to the caller.
func (s *Server) exportProfiles(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
	q := actors.Query{State: in.State, Registrar: in.Registrar, Text: in.Q, Limit: exportPage}
	first, err := s.options.Node.Profiles(ctx, q)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/x-ndjson")
		_, w := humago.Unwrap(hc)
		out := bufio.NewWriterSize(newStream(w), 64<<10)
		err := s.exportPages(ctx, out, q, first)
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			s.log.Warn("export was cut off", "caller", callerOf(ctx), "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

func (s *Server) exportPages(ctx context.Context, out *bufio.Writer, q actors.Query, page actors.Page) error {
	for {
		for _, v := range page.Profiles {
			line, err := declare.Export(v)
			if err != nil {
				return err
			}
			if _, err := out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
		var err error
		if page, err = s.options.Node.Profiles(ctx, q); err != nil {
			return err
		}
	}
}
