package usim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/usim"
)

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usim.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadSubscribers(t *testing.T) {
	text := "\ufeffProfile, impi ,k,op,opc,versions\r\n" +
		"alice," + impi + "," + keyK + "," + keyOP + ",,2\r\n\r\n" +
		`"bob, the other",,` + strings.ToUpper(keyK) + ",," + keyOPc + ", \r\n"
	got, err := usim.ReadSubscribers(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	want := []usim.Subscriber{
		{Profile: "alice", IMPI: impi, Keys: keys(t), V2Only: true},
		{Profile: "bob, the other", Keys: keys(t)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	short, err := usim.ReadSubscribers(write(t, "k,opc,profile\n"+keyK+","+keyOPc+",alice"))
	if err != nil || len(short) != 1 || !short[0].Keys.Equal(keys(t)) {
		t.Errorf("%v, %v", short, err)
	}
}

func TestReadSubscribersNamesAllFaults(t *testing.T) {
	row := func(profile, k, op, opc, versions string) string {
		return strings.Join([]string{profile, "", k, op, opc, versions}, ",") + "\n"
	}
	const header = "profile,impi,k,op,opc,versions\n"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"1: has no header line"}},
		{"no header", row("alice", keyK, "", keyOPc, "2"), []string{
			"1: column 1 of the header has none of the names", "1: column 2 of", "1: column 3 of", "1: column 4 of", "1: column 5 of", "1: column 6 of",
			"1: profile: is missing in the header",
		}},
		{"header without k", "profile,op\n", []string{"1: k: is missing in the header"}},
		{"header without op", "profile,k\n", []string{"1: opc: is missing in the header, as is op"}},
		{"header twice", "profile,k,k,op\n", []string{"1: k: stands in the header twice"}},
		{"rows", header +
			row("", keyK, "", keyOPc, "") +
			row("a", "", "", keyOPc, "") +
			row("b", keyK, "", "", "") +
			row("c", keyK, keyOP, keyOPc, "") +
			row("d", keyK[1:], "", keyOPc+"00", "1") +
			row("e", "465b5ce8b199b49faa5f0a2ee238a6bg", "", "Z", "2") +
			row("f", keyK, keyOP, "", "") +
			row("f", keyK, keyOP, "", "") +
			"g,x:y," + keyK + "," + keyOP + ",,\n" +
			"h," + keyK + "\n" +
			`i,"` + keyK + "\n" +
			"j,a\x01," + keyK + "," + keyOP + ",,\n", []string{
			"2: profile: is missing", "3: k: is missing", "4: opc: is missing, as is op", "5: opc: stands beside op",
			"6: versions: is neither", "6: k: is not 32 hex digits", "6: opc: is not 32 hex digits",
			"7: k: is not 32 hex digits", "7: opc: is not 32 hex digits", "9: profile: stands in line 8 already",
			"10: impi: has a colon", "11: has 2 fields, the header has 6", "12: is not CSV", "13: impi: has a control character",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			got, err := usim.ReadSubscribers(path)
			if err == nil || got != nil {
				t.Fatalf("read %d subscribers: %v", len(got), err)
			}
			lines := strings.Split(err.Error(), "\n")
			for i, line := range lines {
				lines[i] = strings.TrimPrefix(line, path+":")
				if i < len(tt.want) && strings.HasPrefix(lines[i], tt.want[i]) {
					lines[i] = tt.want[i]
				}
			}
			if diff := cmp.Diff(tt.want, lines); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, secret := range []string{keyK[:6], keyOP[:6], keyOPc[:6], "465b5ce8", "Z"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("AKA-08: a key is shown: %v", err)
				}
			}
		})
	}
}

func TestReadSubscribersBounds(t *testing.T) {
	_, err := usim.ReadSubscribers(write(t, "profile,k,op\n"+strings.Repeat("x\n", 1000)))
	if n := strings.Count(fmt.Sprint(err), "\n"); n != 100 || !strings.HasSuffix(err.Error(), "and 900 faults more") {
		t.Errorf("%d faults", n)
	}
	if _, err := usim.ReadSubscribers(filepath.Join(t.TempDir(), "none.csv")); err == nil {
		t.Error("a file that is not there")
	}
}

func TestSubscribersAreNotPrinted(t *testing.T) {
	s, err := usim.ReadSubscribers(write(t, "profile,k,opc\nalice,"+keyK+","+keyOPc+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := usim.New(usim.Options{Subscribers: s})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, x := range []any{s, s[0], p, *p} {
			text := strings.ToLower(fmt.Sprintf(verb, x))
			for _, secret := range []string{keyK[:8], keyOPc[:8], strings.ToLower(string(unhex(keyK)))} {
				if strings.Contains(text, secret) {
					t.Errorf("AKA-08: %s of %T shows a key", verb, x)
				}
			}
		}
	}
}

func FuzzReadSubscribers(f *testing.F) {
	f.Add("profile,k,op,opc\nalice," + keyK + "," + keyOP + ",\n")
	f.Add("profile,k,opc\n\"a\"\"b\"," + keyK + "," + keyOPc)
	f.Add("\"\n,,,")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := usim.ReadSubscribers(write(t, text))
		if err != nil {
			if strings.Contains(err.Error(), "465b5c") {
				t.Fatal("a key is shown")
			}
			return
		}
		if _, err := usim.New(usim.Options{Subscribers: got}); err != nil {
			t.Fatalf("what was read is refused: %v", err)
		}
	})
}
