package muster_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// setFormat makes a journal look as if a later release had written it.
func setFormat(t *testing.T, journal string, format uint64) {
	t.Helper()
	db, err := bolt.Open(journal, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), binary.BigEndian.AppendUint64(nil, format))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBytes: a node on a damaged journal either says that it is damaged
// and does not start, or works with exactly what was there.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	flips := 40
	if testing.Short() {
		flips = 6
	}
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	ids := numbered(20)
	options := muster.Options{
		DataDir: t.TempDir() + "/data", SIP: muster.SIP{Listen: []string{"udp://127.0.0.1:0"}},
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows(ids...)},
	}
	node := startNode(t, options)
	if _, err := node.AddProfile(t.Context(), rows("own")[0]); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, "own")
	waitState(t, node, actors.StateRegistered, ids...)
	want := views(t, node, ids)
	stopNode(t, node)
	journal := filepath.Join(options.DataDir, "journal.db")
	good, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	used := bytes.LastIndexFunc(good, func(r rune) bool { return r != 0 })
	random := rand.New(rand.NewPCG(20261122, 1))
	refused := 0
	for range flips {
		at, bit := random.IntN(used), byte(1)<<random.IntN(8)
		damaged := bytes.Clone(good)
		damaged[at] ^= bit
		if err := os.WriteFile(journal, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		node, err := muster.New(options)
		if err == nil {
			if err = node.Start(t.Context()); err == nil {
				if got := views(t, node, ids); got != want {
					t.Errorf("bit %08b of byte %d: the node works with something else\n%s\n%s", bit, at, got, want)
				}
				stopNode(t, node)
				continue
			}
		}
		refused++
		if !strings.Contains(err.Error(), "damage") && !strings.Contains(err.Error(), "does not open") {
			t.Errorf("bit %08b of byte %d: the error does not speak of damage: %v", bit, at, err)
		}
	}
	t.Logf("%d of %d flips were refused, the others hit nothing that counts", refused, flips)
	if refused == 0 {
		t.Error("no flip was noticed")
	}
	if n := registrar.Snapshot().Registers; n != 2*uint64(len(ids)) {
		t.Errorf("%d requests, want %d: a start on live bindings sends none", n, 2*len(ids))
	}
	wantInvariants(t, registrar)
}

// views are profiles as text, to be compared.
func views(t *testing.T, node *muster.Node, ids []string) string {
	t.Helper()
	var all strings.Builder
	for _, id := range ids {
		line, err := json.Marshal(view(t, node, id))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(line, '\n'))
	}
	return all.String()
}

// TestDamagedHeadsAndBackup: a journal that is cut short is refused, and a
// backup in its place works.
func TestDamagedHeadsAndBackup(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	ids := numbered(5)
	options := muster.Options{
		DataDir: t.TempDir() + "/data",
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows(ids...)},
	}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	var backup bytes.Buffer
	if err := node.Backup(&backup); err != nil {
		t.Fatal(err)
	}
	want := views(t, node, ids)
	stopNode(t, node)
	journal := filepath.Join(options.DataDir, "journal.db")
	if err := os.Truncate(journal, 10_000); err != nil {
		t.Fatal(err)
	}
	if _, err := muster.New(options); err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("a journal that is cut short: %v, want the advice to restore a backup", err)
	}
	if err := os.WriteFile(journal, backup.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	node = startNode(t, options)
	if got := views(t, node, ids); got != want {
		t.Errorf("from the backup:\n%s\nwant\n%s", got, want)
	}
	wantInvariants(t, registrar)
}

// smallDisk mounts a file system of its own, or skips loudly.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Skipf("SKIPPED: no small disk can be mounted, a full one is not tested: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill takes all the space that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestDiskFull: a node whose disk is full says so, sends nothing that it cannot
// record, keeps its bindings, and goes on by itself when there is space again
//
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "8m")
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, CheckNC: true})
	ids := numbered(20)
	config := target(registrar)
	config.RetryBase, config.RetryMax = time.Second, 2*time.Second
	options := muster.Options{
		DataDir: disk + "/data", KeyFile: t.TempDir() + "/key", Admin: muster.Admin{Listen: "127.0.0.1:0"},
		Desired: muster.Desired{Registrars: []actors.Registrar{config}, Profiles: rows(ids...)},
	}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	before := views(t, node, ids)
	api := "http://" + node.AdminAddr()

	fill(t, disk+"/filler")
	// A refresh is an event, which finds no place. Small ones may fit at first.
	eventually(t, "the node is not ready", func() bool {
		_, _ = node.RefreshProfile(t.Context(), ids[0])
		return node.Ready() != nil
	})
	if err := node.Ready(); err == nil || !strings.Contains(err.Error(), "the store failed, nothing is sent") || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("ready: %v, want that the store failed for lack of space", err)
	}
	if status, body := get(t, api+"/-/ready"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no space left") {
		t.Errorf("/-/ready: %d %s", status, body)
	}
	// What was recorded before may still leave.
	time.Sleep(200 * time.Millisecond)
	sent := len(registrar.Requests())
	for _, id := range ids[1:6] {
		if _, err := node.RefreshProfile(t.Context(), id); err == nil {
			t.Errorf("refresh of %s is acknowledged while the store has failed", id)
		} else if !errors.Is(err, actors.ErrStoreFailed) {
			t.Errorf("refresh of %s: %v, want %v", id, err, actors.ErrStoreFailed)
		}
	}
	if status, body := post(t, api+"/api/v1/profiles", `{"id":"new","aor":"sip:new@example.test","registrar":"r","password":"pw-new"}`); status != http.StatusServiceUnavailable {
		t.Errorf("a profile is added while the store has failed: %d %s", status, body)
	}
	if status, body := get(t, api+"/api/v1/profiles?state=registered&limit=100"); status != http.StatusOK || strings.Count(body, `"id"`) != len(ids) {
		t.Errorf("the list while the store has failed: %d %s", status, body)
	}
	if status, body := get(t, api+"/api/v1/profiles/p9/history"); status != http.StatusOK && status != http.StatusServiceUnavailable {
		t.Errorf("a history while the store has failed: %d %s", status, body)
	}
	time.Sleep(2 * time.Second)
	if n := len(registrar.Requests()) - sent; n != 0 {
		t.Errorf("%d requests left while the store had failed", n)
	}
	if after := views(t, node, ids[6:]); !strings.HasSuffix(before, after) {
		t.Errorf("the bindings changed:\n%s\nbefore\n%s", after, before)
	}

	if err := os.Remove(disk + "/filler"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is ready again", func() bool { return node.Ready() == nil })
	for _, id := range ids {
		before := strings.Count(story(t, node, id), "registered (200)")
		eventually(t, id+" is refreshed", func() bool {
			_, _ = node.RefreshProfile(t.Context(), id)
			return strings.Count(story(t, node, id), "registered (200)") > before
		})
	}
	if status, body := post(t, api+"/api/v1/profiles", `{"id":"new","aor":"sip:new@example.test","registrar":"r","password":"pw-new"}`); status != http.StatusCreated {
		t.Errorf("a profile cannot be added after the recovery: %d %s", status, body)
	}
	waitState(t, node, actors.StateRegistered, append(ids, "new")...)
	stopNode(t, node)
	wantInvariants(t, registrar)
	checkJournal(t, options.DataDir+"/journal.db", registrar.Requests(), []string{"new"})
}

// TestStopWhileTheDiskIsFull: the end of a node does not depend on its disk,
// and the next start finds everything.
func TestStopWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "8m")
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	ids := numbered(5)
	options := muster.Options{
		DataDir: disk + "/data", KeyFile: t.TempDir() + "/key", StopLimit: 5 * time.Second,
		SIP:     muster.SIP{Listen: []string{"udp://127.0.0.1:0"}},
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows(ids...)},
	}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	fill(t, disk+"/filler")
	eventually(t, "the node is not ready", func() bool {
		_, _ = node.RefreshProfile(t.Context(), ids[0])
		return node.Ready() != nil
	})
	began := time.Now()
	if err := node.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("stop took %v", took)
	}
	wantRefusedForSpace(t, options)
	if err := os.Remove(disk + "/filler"); err != nil {
		t.Fatal(err)
	}
	node = startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	report, err := store.Verify(options.DataDir + "/journal.db")
	if !errors.Is(err, store.ErrInUse) {
		t.Errorf("verify of a journal in use: %v %v", report, err)
	}
	stopNode(t, node)
	wantInvariants(t, registrar)
	checkJournal(t, options.DataDir+"/journal.db", registrar.Requests(), nil)
}

// wantRefusedForSpace starts a node on a full disk. That it starts is no
// mistake: the first commit may still fit.
func wantRefusedForSpace(t *testing.T, o muster.Options) {
	t.Helper()
	node, err := muster.New(o)
	if err == nil {
		err = node.Start(t.Context())
		if err == nil {
			stopNode(t, node)
			return
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("start on a full disk: %v, want that there is no space", err)
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	return answer(t, response, err)
}

func post(t *testing.T, url, body string) (status int, answerBody string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	return answer(t, response, err)
}

func answer(t *testing.T, response *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
