//go:build interop

package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

func (f *xspFarm) waitRegistered(limit time.Duration) {
	f.t.Helper()
	eventually(f.t, limit, func() string {
		if s := f.states(); s[actors.StateRegistered] != f.total() {
			return fmt.Sprintf("profiles by state: %v, want %d registered", s, f.total())
		}
		return ""
	})
	if n, err := f.kamailio.Count(); err != nil || n != f.total() {
		f.t.Errorf("Kamailio holds %d contacts (%v), want %d", n, err, f.total())
	}
}

func (f *xspFarm) counters() Counters {
	f.t.Helper()
	c, err := f.kamailio.Counters()
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// quiet waits until no REGISTER is on its way.
func (f *xspFarm) quiet() Counters {
	f.t.Helper()
	const rest = time.Second
	last, since := f.counters(), time.Now()
	eventually(f.t, 30*time.Second, func() string {
		if c := f.counters(); c != last {
			last, since = c, time.Now()
		}
		if time.Since(since) < rest {
			return "there is no rest"
		}
		return ""
	})
	return last
}

// refreshOnce refreshes profiles and checks that it costs one REGISTER each,
// because their xSPs can be asked before the request leaves.
func (f *xspFarm) refreshOnce(ids ...string) {
	f.t.Helper()
	before := f.counters()
	f.refresh(ids...)
	eventually(f.t, 30*time.Second, func() string {
		if c := f.counters(); c.Accepted < before.Accepted+len(ids) {
			return fmt.Sprintf("%d of %d are refreshed", c.Accepted-before.Accepted, len(ids))
		}
		return ""
	})
	c := f.counters()
	if c.Received != before.Received+len(ids) || c.Unauthorized != before.Unauthorized || c.Wrong != 0 || c.Stale != before.Stale {
		f.t.Errorf("%d refreshes: Kamailio counted %+v before and %+v after, want one request each", len(ids), before, c)
	}
}

// listed is what "muster xsp list" shows of one xSP.
func (f *xspFarm) listed(name string) actors.XSPView {
	f.t.Helper()
	out, err := exec.CommandContext(f.t.Context(), f.muster, "xsp", "list", "-o", "json", "--server", f.base).Output()
	if err != nil {
		f.t.Fatal(err)
	}
	var answer struct{ XSP []actors.XSPView }
	if err := json.Unmarshal(out, &answer); err != nil {
		f.t.Fatal(err)
	}
	for _, x := range answer.XSP {
		if x.Name == name {
			return x
		}
	}
	f.t.Fatalf("muster xsp list does not show %s: %s", name, out)
	return actors.XSPView{}
}

// wantAnsweredBy checks who has answered the challenges, by the metrics.
func (f *xspFarm) wantAnsweredBy(each int) {
	f.t.Helper()
	got := f.challenges()
	if len(got) == 0 {
		f.t.Error("muster_challenges_total is not there")
	}
	for key, n := range got {
		if key[0] == "digest" && n != 0 {
			f.t.Errorf("the DigestActor was asked: %v %v", key, n)
		}
	}
	for _, name := range xspNames {
		if n := got[[2]string{name, "answered"}]; n != float64(each) {
			f.t.Errorf("%s has answered %v challenges, want %d", name, n, each)
		}
	}
}

// wantSupplied reads the journal of a stopped node: every profile was answered
// for by its own xSP and by nobody else, and nothing that could be used to log
// in was kept.
func (f *xspFarm) wantSupplied() {
	f.t.Helper()
	out, err := exec.CommandContext(f.t.Context(), f.muster, "journal", "dump", "--config", f.path("muster.yaml")).Output()
	if err != nil {
		f.t.Fatalf("journal dump: %v", err)
	}
	supplied := map[string]map[string]int{}
	for line := range bytes.Lines(out) {
		var record struct{ Envelope json.RawMessage }
		var e messages.Envelope
		if err := json.Unmarshal(line, &record); err != nil {
			f.t.Fatal(err)
		}
		if err := protojson.Unmarshal(record.Envelope, &e); err != nil {
			f.t.Fatal(err)
		}
		if c := e.GetProfile().GetCredentialsSupplied(); c != nil {
			id := strings.TrimPrefix(e.GetStream(), "p/")
			if supplied[id] == nil {
				supplied[id] = map[string]int{}
			}
			supplied[id][c.GetHandler()]++
		}
	}
	for _, name := range xspNames {
		for _, id := range f.ids(name) {
			if by := supplied[id]; len(by) != 1 || by[name] == 0 {
				f.t.Errorf("the journal says that %s was answered for by %v, want %s alone", id, by, name)
			}
		}
	}
	secrets := map[string]string{"the key of the webhook": hookKey, "a digest response": "response=", "a signature": "Muster-Signature"}
	for _, id := range f.all() {
		secrets["the password of "+id] = Password(id)
	}
	searched, err := filepath.Glob(f.path("data/*"))
	if err != nil || len(searched) == 0 {
		f.t.Fatalf("the folder of the node is empty (%v)", err)
	}
	logs, _ := filepath.Glob(f.path("*.log"))
	for _, path := range append(searched, logs...) {
		wantAbsent(f.t, path, secrets)
	}
}

// TestXSPsAnswerForKamailio: 1,500 profiles whose passwords the node does not
// know are registered with Kamailio by three programs of others at once. One of
// them dies and comes back, the node is killed, and no binding is lost.
func TestXSPsAnswerForKamailio(t *testing.T) {
	f := newXSPFarm(t, Options{Algorithm: "SHA-256", NonceCount: true}, 500)
	f.startNode()
	f.waitRegistered(time.Minute)
	if c := f.counters(); c.Received != 2*f.total() || c.Unauthorized != f.total() || c.Accepted != f.total() {
		t.Errorf("Kamailio counted %+v, want a challenge and an answer for each of %d", c, f.total())
	}
	f.wantAnsweredBy(f.each)
	f.refreshOnce(f.all()...)
	f.wantAnsweredBy(2 * f.each)

	f.loseFar()
	f.regainFar()

	before, calls := f.quiet(), f.profiles()
	f.node.kill()
	f.startNode()
	time.Sleep(3 * time.Second)
	if c := f.counters(); c.Received != before.Received {
		t.Errorf("%d REGISTERs in the first seconds after a crash, want none", c.Received-before.Received)
	}
	f.waitRegistered(time.Second)
	sample := append(append(f.ids("hook")[:20], f.ids("near")[:20]...), f.ids("far")[:20]...)
	f.refreshOnce(sample...)
	for id, v := range f.profiles() {
		if v.CallID != calls[id].CallID || v.CSeq < calls[id].CSeq {
			t.Errorf("%s is %s CSeq %d after a crash, and was %s CSeq %d", id, v.CallID, v.CSeq, calls[id].CallID, calls[id].CSeq)
		}
	}
	f.node.signal(syscall.SIGTERM)
	f.wantSupplied()
}

// loseFar kills the program of the xSP far: its breaker opens, its profiles
// keep their bindings and the others do not notice.
func (f *xspFarm) loseFar() {
	f.t.Helper()
	before, profiles := f.counters(), f.profiles()
	f.far.kill()
	f.refresh(f.ids("far")...)
	eventually(f.t, 30*time.Second, func() string {
		if x := f.listed("far"); x.State != "down" {
			return fmt.Sprintf("the breaker of far is not open: %+v", x)
		}
		return ""
	})
	eventually(f.t, 30*time.Second, func() string {
		waiting := f.each
		for id, v := range f.profiles() {
			if strings.HasPrefix(id, "far-") && v.Reason == string(messages.ReasonHandler) {
				waiting--
			}
		}
		if waiting > 0 {
			return fmt.Sprintf("%d profiles of far do not know yet that it is gone", waiting)
		}
		return ""
	})
	if c := f.counters(); c.Received != before.Received {
		f.t.Errorf("%d REGISTERs left although nobody answers for them", c.Received-before.Received)
	}
	f.waitRegistered(time.Second) // the bindings stay
	f.refreshOnce(append(f.ids("hook")[:20], f.ids("near")[:20]...)...)
	for name, x := range f.xsps() {
		if name != "far" && (x.State != "up" || x.Failed > 0) {
			f.t.Errorf("%s was disturbed: %+v", name, x)
		}
	}
	for id, v := range f.profiles() {
		if strings.HasPrefix(id, "far-") && (v.ExpiresAt == nil || !v.ExpiresAt.Equal(*profiles[id].ExpiresAt)) {
			f.t.Errorf("the binding of %s ends at %v, and before at %v", id, v.ExpiresAt, profiles[id].ExpiresAt)
		}
	}
}

// regainFar starts it again. The question that finds the breaker half open
// closes it; then a refresh mends what had failed.
func (f *xspFarm) regainFar() {
	f.t.Helper()
	before := f.counters()
	f.startFar()
	eventually(f.t, time.Minute, func() string {
		if x := f.listed("far"); x.State != "up" {
			f.refresh("far-0")
			return fmt.Sprintf("the breaker of far is still open: %s", x.LastError)
		}
		return ""
	})
	f.refresh(f.ids("far")...)
	eventually(f.t, 30*time.Second, func() string {
		failed := 0
		for _, v := range f.profiles() {
			if v.Reason != "" || v.State != actors.StateRegistered {
				failed++
			}
		}
		if failed > 0 {
			return fmt.Sprintf("%d profiles have not recovered", failed)
		}
		return ""
	})
	f.waitRegistered(time.Second)
	if c := f.quiet(); c.Unauthorized != before.Unauthorized || c.Wrong != 0 {
		f.t.Errorf("Kamailio counted %+v before and %+v after; want no challenge, as every nonce was known", before, c)
	}
}

// TestXSPsAnswerForKamailioWithMD5: the same programs, asked for MD5 by
// challenges without the parameter.
func TestXSPsAnswerForKamailioWithMD5(t *testing.T) {
	f := newXSPFarm(t, Options{NonceCount: true}, 20)
	f.startNode()
	f.waitRegistered(time.Minute)
	f.wantAnsweredBy(f.each)
	f.refreshOnce(f.all()...)
	f.node.signal(syscall.SIGTERM)
	f.wantSupplied()
}
