package muster_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// wantRefused checks that a node does not come up, why, and that nothing of it
// is left: neither a goroutine nor the lock on the data folder.
func wantRefused(t *testing.T, o muster.Options, says ...string) {
	t.Helper()
	before := goroutines()
	node, err := muster.New(o)
	if err == nil {
		err = node.Start(t.Context())
	}
	if err == nil {
		t.Error("the node starts")
		stopNode(t, node)
		return
	}
	for _, want := range says {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("one fault, several lines: %v", err)
	}
	wantNothingRunning(t, before)
}

// TestTakenPorts: the error names the address and says what to do.
func TestTakenPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	data := t.TempDir() + "/data"
	tcp, udp := taken.Addr().String(), datagrams.LocalAddr().String()
	wantRefused(t, muster.Options{DataDir: data, Admin: muster.Admin{Listen: tcp}}, tcp, "change admin.listen")
	wantRefused(t, muster.Options{DataDir: data, SIP: muster.SIP{Listen: []string{"udp://" + udp}}}, "udp://"+udp, "choose another port in sip.listen")
	wantRefused(t, muster.Options{
		DataDir: data, Admin: muster.Admin{Listen: "127.0.0.1:0"},
		SIP: muster.SIP{Listen: []string{"udp://127.0.0.1:0", "tcp://" + tcp}},
	}, "tcp://"+tcp, "choose another port in sip.listen")
	wantRefused(t, muster.Options{DataDir: data, SIP: muster.SIP{Listen: []string{"udp://192.0.2.77:5060"}}}, "192.0.2.77:5060", "no such address")
	wantRefused(t, muster.Options{DataDir: data, Admin: muster.Admin{Listen: "0.0.0.0:0"}}, "needs TLS and tokens")
	wantRefused(t, muster.Options{DataDir: data, Admin: muster.Admin{Listen: "127.0.0.1:0", TokenFile: data + "/none"}}, data+"/none")
	wantRefused(t, muster.Options{DataDir: data, SIP: muster.SIP{Listen: []string{"ws://127.0.0.1:0"}}}, "ws://127.0.0.1:0")

	// The folder is free for one that is right.
	node := startNode(t, muster.Options{DataDir: data})
	stopNode(t, node)
}

// TestSecondNodeOnAFolder: a folder has one node at a time, and the error says
// which folder and who has it.
func TestSecondNodeOnAFolder(t *testing.T) {
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	options := muster.Options{
		DataDir: t.TempDir() + "/data",
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows("p0")},
	}
	node := startNode(t, options)
	wantRefused(t, options, options.DataDir, "in use by another process", "pid ")
	waitState(t, node, actors.StateRegistered, "p0")
	stopNode(t, node)
	node = startNode(t, options)
	waitState(t, node, actors.StateRegistered, "p0")
	stopNode(t, node)
	wantInvariants(t, registrar)
}

// TestUnusableDataFolder: what is wrong with the folder or the key is said
// before anything is sent.
func TestUnusableDataFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("not a folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	wantRefused(t, muster.Options{}, "DataDir is empty")
	wantRefused(t, muster.Options{DataDir: filepath.Join(file, "data"), KeyFile: key}, "file")
	wantRefused(t, muster.Options{DataDir: file, KeyFile: key}, file)
	data := filepath.Join(dir, "data")
	wantRefused(t, muster.Options{DataDir: data, KeyFile: filepath.Join(data, "keys", "muster.key")}, "lies inside the data folder", data)
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused key file left a data folder: %v", err)
	}
	open := filepath.Join(dir, "open.key")
	if err := os.WriteFile(open, []byte(strings.Repeat("0", 64)), 0o644); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, muster.Options{DataDir: data, KeyFile: open}, open, "0600")
	if err := os.WriteFile(key, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, muster.Options{DataDir: data, KeyFile: key}, key, "64 hex digits")
}

// TestReadOnlyDataFolder: a folder that takes no writes.
func TestReadOnlyDataFolder(t *testing.T) {
	data := readOnlyFolder(t)
	wantRefused(t, muster.Options{DataDir: data, KeyFile: t.TempDir() + "/key"}, data)
}

// readOnlyFolder makes a folder that cannot be written to, also by root.
func readOnlyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, "size=64k"); err != nil {
		t.Skipf("SKIPPED: no file system can be mounted, a read-only one is not tested: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	return dir
}

// TestWrongKey: with another key the sealed secrets do not open, and the node
// says so instead of registering without them.
func TestWrongKey(t *testing.T) {
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	options := muster.Options{
		DataDir: t.TempDir() + "/data",
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}},
	}
	node := startNode(t, options)
	if _, err := node.AddProfile(t.Context(), rows("p0")[0]); err != nil {
		t.Fatal(err)
	}
	stopNode(t, node)
	options.KeyFile = t.TempDir() + "/another.key"
	wantRefused(t, options, "p0", "another key")
}

// TestForeignJournal: a file that is no journal, one of a later release and one
// with another owner are refused by name, and left as they are.
func TestForeignJournal(t *testing.T) {
	data := t.TempDir() + "/data"
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(data, "journal.db")
	foreign := []byte(strings.Repeat("This is a letter to my aunt.\n", 5000))
	for _, content := range [][]byte{foreign, foreign[:100], {}, make([]byte, 1<<20)} {
		if err := os.WriteFile(journal, content, 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, muster.Options{DataDir: data}, "journal")
		after, err := os.ReadFile(journal)
		if err != nil || string(after) != string(content) {
			t.Errorf("a foreign file of %d bytes was changed: %v", len(content), err)
		}
	}
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	stopNode(t, startNode(t, muster.Options{DataDir: data}))
	setFormat(t, journal, 7)
	wantRefused(t, muster.Options{DataDir: data}, "format 7", "newer release")

	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Options{Dir: data, Epoch: 7})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, muster.Options{DataDir: data}, "epoch 7")
}
