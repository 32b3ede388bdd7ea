//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors"
)

// program is a child process whose output is in a file.
type program struct {
	*child
	t   *testing.T
	log string
}

// launch starts a program that is killed when the test ends, or when the
// process of the test dies.
func launch(t *testing.T, log, path string, args ...string) *program {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the child has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, filepath.Dir(log)
	started, err := startChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{child: started, t: t, log: log}
	t.Cleanup(p.kill)
	return p
}

func (p *program) signal(s os.Signal) {
	_ = p.cmd.Process.Signal(s)
	<-p.exited
}

// ready waits until the node at base is.
func (p *program) ready(base string) {
	p.t.Helper()
	eventually(p.t, startTimeout, func() string {
		select {
		case <-p.exited:
			text, _ := os.ReadFile(p.log)
			p.t.Fatalf("the node ended:\n%s", text)
		default:
		}
		response, err := http.Get(base + "/-/ready")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return "not ready: " + response.Status
		}
		return ""
	})
}

func (p *program) kill() { p.signal(os.Kill) }

// says waits for a line that begins like this and returns the rest of the last
// one.
func (p *program) says(prefix string) string {
	p.t.Helper()
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(p.log)
		if err != nil {
			p.t.Fatal(err)
		}
		found := ""
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(rest, "\n") {
				found = strings.TrimSpace(rest)
			}
		}
		if found != "" {
			return found
		}
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended:\n%s", p.cmd.Path, text)
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not say %q in %v:\n%s", p.cmd.Path, prefix, startTimeout, text)
		}
	}
}

// build makes a binary of a package of this module.
func build(t *testing.T, dir, name, pkg string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/sipmuster/muster/"+pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// steadyPort is a port of loopback that a program can be started at again: it is
// free, and below those that the kernel gives to outgoing connections, of which
// these tests make many (net.ipv4.ip_local_port_range).
func steadyPort(t *testing.T) int {
	t.Helper()
	const first, count = 20_000, 12_000
	for range 100 {
		port := first + rand.IntN(count)
		at := fmt.Sprintf("127.0.0.1:%d", port)
		stream, err := net.Listen("tcp4", at)
		if err != nil {
			continue
		}
		packets, err := net.ListenPacket("udp4", at)
		stream.Close()
		if err == nil {
			packets.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// api is the HTTP API of a node in another process.
type api struct {
	t    *testing.T
	base string
}

// do calls the API and decodes what it answers, unless into is nil.
func (a *api) do(method, path string, into any) error {
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

func (a *api) get(path string, into any) {
	a.t.Helper()
	if err := a.do("GET", path, into); err != nil {
		a.t.Fatal(err)
	}
}

// states counts the profiles by state.
func (a *api) states() map[string]int {
	a.t.Helper()
	var answer struct{ Registrars []actors.RegistrarView }
	a.get("/api/v1/registrars", &answer)
	sum := map[string]int{}
	for _, r := range answer.Registrars {
		for state, n := range r.Profiles {
			if n > 0 {
				sum[state] += n
			}
		}
	}
	return sum
}

// xsps are the xSPs by name.
func (a *api) xsps() map[string]actors.XSPView {
	a.t.Helper()
	var answer struct{ XSP []actors.XSPView }
	a.get("/api/v1/xsp", &answer)
	views := map[string]actors.XSPView{}
	for _, x := range answer.XSP {
		views[x.Name] = x
	}
	return views
}

// profiles are all profiles by id.
func (a *api) profiles() map[string]actors.ProfileView {
	a.t.Helper()
	views := map[string]actors.ProfileView{}
	for after := ""; ; {
		var page struct {
			Profiles []actors.ProfileView
			Next     string
		}
		a.get("/api/v1/profiles?limit=1000&after="+after, &page)
		for _, v := range page.Profiles {
			views[v.ID] = v
		}
		if after = page.Next; after == "" {
			return views
		}
	}
}

// refresh asks for an attempt of each profile.
func (a *api) refresh(ids ...string) {
	a.t.Helper()
	var (
		mu   sync.Mutex
		errs []error
		wait sync.WaitGroup
	)
	work := make(chan string)
	for range 8 {
		wait.Go(func() {
			for id := range work {
				if err := a.do("POST", "/api/v1/profiles/"+id+"/refresh", nil); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		a.t.Fatal(err)
	}
}

// challenges is muster_challenges_total by handler and outcome.
func (a *api) challenges() map[[2]string]float64 {
	a.t.Helper()
	response, err := http.Get(a.base + "/metrics")
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	found := map[[2]string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		var handler, outcome string
		var value float64
		line := strings.NewReplacer(`{`, " ", `}`, " ", `"`, " ", `,`, " ").Replace(lines.Text())
		if _, err := fmt.Sscanf(line, "muster_challenges_total handler= %s outcome= %s %g", &handler, &outcome, &value); err == nil {
			found[[2]string{handler, outcome}] = value
		}
	}
	return found
}

// eventually polls until what holds is "", and fails with what it says last.
func eventually(t *testing.T, limit time.Duration, holds func() string) {
	t.Helper()
	logged := time.Now()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		left := holds()
		if left == "" {
			return
		}
		if time.Since(logged) > time.Second {
			t.Log(left)
			logged = time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", limit, left)
		}
	}
}

// wantAbsent checks that a file holds none of the texts.
func wantAbsent(t *testing.T, path string, texts map[string]string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil || len(content) == 0 {
		t.Fatalf("read %s: %d bytes, %v", path, len(content), err)
	}
	for what, text := range texts {
		if bytes.Contains(content, []byte(text)) {
			t.Errorf("%s holds %s", filepath.Base(path), what)
		}
	}
}
