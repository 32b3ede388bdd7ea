package declare

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readAll renders every row of a file, one line each.
func readAll(name, content string) string {
	var out strings.Builder
	r := NewReader(name, strings.NewReader(content))
	for {
		row, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return out.String()
		case err != nil:
			fmt.Fprintf(&out, "line %d: the end: %v\n", r.Line(), err)
			return out.String()
		case len(row.Faults) > 0:
			fmt.Fprintf(&out, "line %d: %v\n", row.Line, row.Faults)
		default:
			d := row.Declaration
			fmt.Fprintf(&out, "line %d: %s %s %s %q\n", row.Line, d.ID, d.AOR, d.Registrar, d.Password.Reveal())
		}
	}
}

func TestReader(t *testing.T) {
	tests := []struct{ name, file, content, want string }{
		{
			"any column order, byte order mark, CRLF, quotes, no final line break", "p.csv",
			"\ufeffPassword, registrar ,aor\r\n\"a\"\"b,c\",acme,sip:a@b\r\n\r\n,acme,sip:c@d",
			"line 2: sip:a@b sip:a@b acme \"a\\\"b,c\"\nline 4: sip:c@d sip:c@d acme \"\"\n",
		},
		{
			"a faulty line costs one line", "p.csv",
			"aor,registrar,password\nsip:a@b,acme,\"canary\nsip:c@d,acme,\"can\"ary\nsip:e@f,acme\nsip:g@h,acme,ok\n",
			"line 2: has a quote that does not belong there (put the field in quotes and double each quote in it: \"a\"\"b\")\n" +
				"line 3: has a quote that does not belong there (put the field in quotes and double each quote in it: \"a\"\"b\")\n" +
				"line 4: has 2 fields, the header names 3 columns (give each column a field, even an empty one)\n" +
				"line 5: sip:g@h sip:g@h acme \"ok\"\n",
		},
		{
			"a missing header shows nothing", "p.csv", "sip:a@b,acme,canary\n",
			"line 1: the end: the first line is not a header (begin the file with a header line that names at least aor and registrar, such as id,aor,registrar,username,password)\n",
		},
		{
			"semicolons", "p.csv", "aor;registrar\n",
			"line 1: the end: the first line is not a header (separate the columns with commas; begin the file with a header line that names at least aor and registrar, such as id,aor,registrar,username,password)\n",
		},
		{
			"unknown and repeated columns", "p.csv", "aor,registrar,pasword,aor\n",
			"line 1: the end: unknown column \"pasword\" (did you mean \"password\"?); column \"aor\" stands there twice (remove one)\n",
		},
		{
			"JSON lines by content", "profiles", "\n{\"aor\":\"sip:a@b\",\"registrar\":\"acme\"}\n{\"aor\":1\n",
			"line 2: sip:a@b sip:a@b acme \"\"\nline 3: aor: must be a string (leave the field out for its default); ends in the middle of the JSON at column 9\n",
		},
		{
			"a JSON array", "p.json", "[\n{}]",
			"line 1: the end: is a JSON array (write one object per line, without brackets and commas between them)\n",
		},
		{
			"a line that is too long", "p.csv", "aor,registrar\n" + strings.Repeat("x", MaxLine+10) + "\nsip:a@b,acme\n",
			"line 2: is longer than 65536 bytes\nline 3: sip:a@b sip:a@b acme \"\"\n",
		},
		{"empty", "p.csv", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, readAll(tt.file, tt.content)); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzSplitCSV compares the line splitter with the standard library's reader.
func FuzzSplitCSV(f *testing.F) {
	f.Add(`a,b,"c ""d"", e"`)
	f.Add(`"`)
	f.Add(`a"b,""`)
	f.Fuzz(func(t *testing.T, line string) {
		if line == "" || strings.ContainsAny(line, "\r\n") {
			t.Skip("one line without its ending")
		}
		got, err := splitCSV(line, nil)
		r := csv.NewReader(strings.NewReader(line))
		want, wantErr := r.Read()
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: error %v, encoding/csv says %v", line, err, wantErr)
		}
		if err == nil && !cmp.Equal(want, got) {
			t.Fatalf("%q: %q, encoding/csv says %q", line, got, want)
		}
	})
}

// FuzzReader: hostile files never panic, end, and yield only sound rows.
func FuzzReader(f *testing.F) {
	f.Add("p.csv", "aor,registrar\nsip:a@b,c\n")
	f.Add("p.jsonl", "{\"aor\":\"sip:a@b\",\"registrar\":\"c\"}\n[")
	f.Add("", "\ufeff{}\n\n\"")
	f.Fuzz(func(t *testing.T, name, content string) {
		r := NewReader(name, strings.NewReader(content))
		last := 0
		for {
			row, err := r.Next()
			if err != nil {
				return
			}
			if row.Line <= last {
				t.Fatalf("line %d after line %d", row.Line, last)
			}
			last = row.Line
			if len(row.Faults) == 0 {
				mustHold(t, row.Declaration)
			}
		}
	})
}

func BenchmarkReaderCSV(b *testing.B) {
	header := "id,aor,registrar,username,password,expires\n"
	row := "user000001,sip:user000001@example.test,acme,user000001,a-long-password-123,3600\n"
	r := NewReader("p.csv", io.MultiReader(strings.NewReader(header), strings.NewReader(strings.Repeat(row, b.N))))
	b.ReportAllocs()
	for {
		row, err := r.Next()
		if err != nil {
			break
		}
		if len(row.Faults) > 0 {
			b.Fatal(row.Faults)
		}
	}
}
