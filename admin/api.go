package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// apiPrefix is where the API lives.
const apiPrefix = "/api/v1"

// Sizes of bodies: a declaration is below 8 KiB, an import has at most
// maxImport of them.
const (
	maxBody       = 64 << 10
	maxImportBody = 16 << 20
	maxImport     = 5000
)

// route is one line of the API's table.
type route struct {
	method, path string
	role         Role
	summary      string
	// status is the usual one when it is not 200.
	status int
	// body documents the request body: a value of its type.
	body any
	// streams is the media type of an answer that is a stream; item documents
	// what it is made of.
	streams string
	item    any
	// errors are statuses of its own, besides those of every route.
	errors []int
}

// routes builds the table of everything that is served.
func (s *Server) routes() {
	api := humago.New(s.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "Muster",
				Version: s.options.Version,
				Description: "Profiles of a node: who is registered, why not, and what to do about it. " +
					"Sessions: calls in the name of profiles. " +
					"Errors are RFC 9457 problems. Secrets are write-only.",
			},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}},
			},
			// An empty requirement: a loopback node without tokens asks nobody.
			Security: []map[string][]string{{"token": {}}, {}},
		},
		OpenAPIPath:                  "/openapi",
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	})
	for _, version := range []string{"", "-3.0"} {
		for _, ext := range []string{".json", ".yaml"} {
			s.roles["GET /openapi"+version+ext] = RoleRead
		}
	}
	s.profileRoutes(api)
	s.bulkRoutes(api)
	s.sessionRoutes(api)
	s.systemRoutes(api)
}

// jsonFormat writes what every answer is made of. Requests are never read with
// it: see bodyInput.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		return out.Encode(v)
	},
	Unmarshal: json.Unmarshal,
}

// register adds a route to the server and to the OpenAPI document.
func register[I, O any](s *Server, api huma.API, r route, handle func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID:   operationID(r),
		Method:        r.method,
		Path:          apiPrefix + r.path,
		Summary:       r.summary,
		DefaultStatus: r.status,
		Description:   "Needs the role " + r.role.String() + " where tokens are used.",
		Errors:        append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}, r.errors...),
	}
	if r.streams != "" {
		op.Responses = map[string]*huma.Response{"200": {
			Content: map[string]*huma.MediaType{r.streams: {
				Schema: huma.SchemaFromType(api.OpenAPI().Components.Schemas, reflect.TypeOf(r.item)),
			}},
		}}
	}
	if strings.Contains(r.path, "{id}") {
		op.Errors = append(op.Errors, http.StatusNotFound)
	}
	if r.body != nil {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	s.roles[op.Method+" "+op.Path] = r.role
	huma.Register(api, op, handle)
	if r.body != nil {
		documentBody(api.OpenAPI(), op, r.body)
	}
}

// operationID makes "post-profiles-enable" of a route.
func operationID(r route) string {
	name := strings.NewReplacer("{id}/", "", "/{id}", "-by-id", "/", "-").Replace(r.path)
	return strings.ToLower(r.method) + strings.ReplaceAll(name, "--", "-")
}

// documentBody adds the request body to the document after huma has made the
// handler: it would otherwise read the body by its own rules, which echo
// values, secrets among them, in errors.
func documentBody(document *huma.OpenAPI, op huma.Operation, body any) {
	item := document.Paths[op.Path]
	target := map[string]*huma.Operation{
		http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch,
	}[op.Method]
	schema := huma.SchemaFromType(document.Components.Schemas, reflect.TypeOf(body))
	target.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
}

// bodyInput hands the request's body to a handler, unread.
type bodyInput struct {
	reader      io.Reader
	contentType string
}

// Resolve implements huma.Resolver.
func (b *bodyInput) Resolve(ctx huma.Context) []error {
	b.contentType = ctx.Header("Content-Type")
	_, w := humago.Unwrap(ctx)
	b.reader = ctx.BodyReader()
	if body, ok := b.reader.(io.ReadCloser); ok {
		// MaxBytesReader closes the connection of a caller who goes on sending.
		b.reader = http.MaxBytesReader(w, body, maxImportBody)
	}
	return nil
}

// read returns at most limit bytes of the body.
func (b *bodyInput) read(limit int64) ([]byte, error) {
	if b.contentType != "" {
		media, _, err := mime.ParseMediaType(b.contentType)
		if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
			return nil, problem(http.StatusUnsupportedMediaType, "the body must be JSON (send Content-Type: application/json)")
		}
	}
	content, err := io.ReadAll(io.LimitReader(b.reader, limit+1))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), int64(len(content)) > limit:
		return nil, problem(http.StatusRequestEntityTooLarge, "the body is larger than "+sizeText(limit))
	case err != nil:
		return nil, problem(http.StatusBadRequest, "the body could not be read to its end")
	case len(content) == 0:
		return nil, problem(http.StatusBadRequest, "the body is empty; it must be JSON")
	}
	return content, nil
}

func sizeText(n int64) string {
	if n >= 1<<20 {
		return strconv.Itoa(int(n>>20)) + " MiB"
	}
	return strconv.Itoa(int(n>>10)) + " KiB"
}
