package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/bench/measure"
)

// node is the process that is measured.
type node struct {
	cmd     *exec.Cmd
	process measure.Process
	began   time.Time
	api     string
	log     string
	done    chan error
}

// launch starts the node on a free port of loopback, which its log names.
func launch(o options) (*node, error) {
	n := &node{log: filepath.Join(o.dir, "node.log"), began: time.Now(), done: make(chan error, 1)}
	log, err := os.Create(n.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.cmd = exec.Command(o.binary, "run", "--config", filepath.Join(o.dir, "muster.yaml"))
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	n.process = measure.Process(n.cmd.Process.Pid)
	go func() { n.done <- n.cmd.Wait() }()
	return n, nil
}

func (n *node) ended() bool { return len(n.done) > 0 }

// waitReady reads in the log when the node is ready and where its API is.
func (n *node) waitReady() error {
	for !n.ended() {
		text, err := os.ReadFile(n.log)
		if err != nil {
			return err
		}
		if _, line, found := strings.Cut(string(text), "msg=ready "); found {
			line, _, _ = strings.Cut(line, "\n")
			_, api, _ := strings.Cut(line, "api=")
			n.api, _, _ = strings.Cut(api, " ")
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(n.log)
	return fmt.Errorf("the node ended: %s", text)
}

func (n *node) report(when string) {
	anon, file, peak := n.process.Memory()
	fmt.Printf("%-32s %.1f s, %.1f CPU-s, RSS %d MiB anon + %d MiB file, at most %d MiB\n", when,
		time.Since(n.began).Seconds(), n.process.CPU().Seconds(), anon>>20, file>>20, peak>>20)
}

// scrape reads /metrics a few times, and prints the fastest and what the node
// says of itself.
func (n *node) scrape(profiles int) error {
	var page []byte
	fastest := time.Hour
	for range 5 {
		began := time.Now()
		r, err := http.Get("http://" + n.api + "/metrics")
		if err != nil {
			return err
		}
		page, err = io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return err
		}
		fastest = min(fastest, time.Since(began))
	}
	fmt.Printf("%-32s %.1f ms, %d kB\n", "scrape of /metrics", fastest.Seconds()*1000, len(page)/1000)
	value := func(name string) float64 {
		sum := 0.0
		for line := range bytes.Lines(page) {
			if rest, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
				v, _ := strconv.ParseFloat(string(bytes.TrimSpace(rest)), 64)
				sum += v
			}
		}
		return sum
	}
	fmt.Printf("%-32s heap %.0f B a profile, %.1f MiB in all, %.1f MiB from the system, next collection at %.1f MiB\n", "the node says",
		value("go_memstats_heap_alloc_bytes")/float64(profiles), value("go_memstats_heap_alloc_bytes")/(1<<20),
		value("go_memstats_sys_bytes")/(1<<20), value("go_memstats_next_gc_bytes")/(1<<20))
	registered, changed := value(`muster_profiles{registrar="r",state="registered"}`), value(`muster_journal_events_total{type="ProfileChanged"}`)
	if registered != float64(profiles) || changed != 0 {
		return fmt.Errorf("%.0f profiles are registered, %.0f rows differ: the preparation is wrong", registered, changed)
	}
	return nil
}

func (n *node) stop() error {
	_ = n.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-n.done:
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("the node did not stop")
	}
}

func (n *node) kill() { _ = n.cmd.Process.Kill() }

// writeFiles writes the configuration and the profile file.
func writeFiles(o options, registrar string) error {
	config := `node: {data_dir: ./data}
admin: {listen: "127.0.0.1:0"}
sip: {listen: ["udp://127.0.0.1:0"]}
registrars:
  r: {uri: "` + registrar + `", expires: ` + o.expires.String() + `, pace: {rate: 10000}}
profiles: {files: [profiles.csv]}
`
	if err := os.WriteFile(filepath.Join(o.dir, "muster.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	rows := []byte("id,aor,registrar,password\n")
	for i := range o.profiles {
		id := profileID(i)
		rows = append(rows, id+",sip:"+id+"@example.test,r,pw-"+id+"\n"...)
	}
	return os.WriteFile(filepath.Join(o.dir, "profiles.csv"), rows, 0o600)
}
