package admin

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sipmuster/muster/actors"
)

type (
	noInput          struct{}
	registrarsOutput struct {
		Body struct {
			Registrars []actors.RegistrarView `json:"registrars"`
		}
	}
	xspsOutput struct {
		Body struct {
			XSP []actors.XSPView `json:"xsp"`
		}
	}
)

func (s *Server) systemRoutes(api huma.API) {
	register(s, api, route{method: "GET", path: "/registrars", role: RoleRead, summary: "Registrars, their profiles per state and their pace"}, s.registrars)
	register(s, api, route{method: "GET", path: "/xsp", role: RoleRead, summary: "Who answers challenges besides digest, and how well"}, s.xsps)
	s.handle("GET /-/healthy", RoleRead, s.healthy)
	s.handle("GET /-/ready", RoleRead, s.ready)
	s.handle("POST /-/reload", RoleOperate, s.reload)
	s.handle("GET /-/backup", RoleAdmin, s.backup)
	if s.options.Metrics != nil {
		s.handle("GET /metrics", RoleRead, s.options.Metrics.ServeHTTP)
	}
}

// handle adds a route that is not part of the API.
func (s *Server) handle(pattern string, role Role, handler http.HandlerFunc) {
	s.roles[pattern] = role
	s.mux.HandleFunc(pattern, handler)
}

func (s *Server) registrars(ctx context.Context, _ *noInput) (*registrarsOutput, error) {
	found, err := s.options.Node.Registrars(ctx)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	out := &registrarsOutput{}
	out.Body.Registrars = found
	if found == nil {
		out.Body.Registrars = []actors.RegistrarView{}
	}
	return out, nil
}

func (s *Server) xsps(ctx context.Context, _ *noInput) (*xspsOutput, error) {
	found, err := s.options.Node.XSPs(ctx)
	if err != nil {
		return nil, s.nodeProblem(err)
	}
	out := &xspsOutput{}
	out.Body.XSP = found
	if found == nil {
		out.Body.XSP = []actors.XSPView{}
	}
	return out, nil
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) {
	s.probe(w, s.options.Node.Healthy(), "healthy")
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	s.probe(w, s.options.Node.Ready(), "ready")
}

func (s *Server) probe(w http.ResponseWriter, err error, fine string) {
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "not "+fine+": "+err.Error())
		return
	}
	writeText(w, fine)
}

// reload reads the configuration, and the files that belong to this server.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	err := s.options.Node.Reload(r.Context())
	if err == nil {
		err = s.Reload()
	}
	if err != nil {
		s.log.Error("reload failed", "caller", callerOf(r.Context()), "error", err)
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.log.Info("configuration reloaded", "caller", callerOf(r.Context()))
	writeText(w, "reloaded")
}

// backup streams a copy of the journal. A failure cuts the stream off, so that
// half a copy is never taken for a whole one.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	s.log.Info("backup begins", "caller", callerOf(r.Context()))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="muster.db"`)
	out := &counted{w: newStream(w)}
	if err := s.options.Node.Backup(out); err != nil {
		s.log.Error("backup failed", "caller", callerOf(r.Context()), "error", err)
		if out.n > 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Del("Content-Disposition")
		writeProblem(w, http.StatusInternalServerError, "backup: "+err.Error())
		return
	}
	s.log.Info("backup done", "caller", callerOf(r.Context()), "bytes", out.n)
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// The write fails only when the caller is gone.
	_, _ = io.WriteString(w, text+"\n")
}

// counted counts what went through.
type counted struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
