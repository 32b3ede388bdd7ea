package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/cmd/node/config"
)

// maxBatch is what the API takes in one request.
const maxBatch = 5000

func newProfilesImport(to *connection) *cobra.Command {
	var o importOptions
	var form string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Add or change profiles from a CSV or JSON-lines file",
		Long: `Import reads a profile file, checks all of it, and sends it to the node in
batches. A profile that exists is changed to what the file says; the same file
again changes nothing.

Every wrong row is listed with its line number, and then nothing is sent; with
--skip-invalid the good rows are sent all the same. What the node refuses is
listed at the end. The exit code is 1 if any row failed.

After an interruption --resume goes on behind the last batch that the node
acknowledged. It uses FILE.progress, which holds a line number and a hash of the
file's name, size and time, and nothing from the file; it is removed at the end.

Columns: id,aor,registrar,username,password,ha1,contact_user,expires,
registration_handler,session_handler,register,enabled. JSON lines use the same
names. aor and registrar are required. A handler is digest, the name of an xSP, or
a chain such as token-service>digest; an empty one is the registrar's default.`,
		Example: `  muster profiles import profiles.csv --dry-run
  muster profiles import profiles.csv
  muster profiles import profiles.jsonl --batch 1000 --resume`,
		Args: arguments(1, 1, "a profile file"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.batch < 1 || o.batch > maxBatch {
				return wrongUse(c, "--batch must be from 1 to %d", maxBatch)
			}
			if o.dryRun && o.resume {
				return wrongUse(c, "--dry-run and --resume exclude each other: a dry run leaves nothing to resume")
			}
			node, err := to.open(c)
			if err != nil {
				return err
			}
			i := &importer{importOptions: o, path: args[0], node: node, out: c.OutOrStdout(), err: c.ErrOrStderr()}
			err = i.run(c.Context())
			if form == formJSON && i.checked {
				if printing := printJSON(c.OutOrStdout(), i.summary); printing != nil {
					return printing
				}
			} else if i.checked {
				i.report()
			}
			return err
		},
	}
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "tell what would happen, change nothing")
	c.Flags().IntVar(&o.batch, "batch", maxBatch, "send this `NUMBER` of profiles at a time")
	c.Flags().BoolVar(&o.resume, "resume", false, "go on where an interrupted import ended")
	c.Flags().BoolVar(&o.skipInvalid, "skip-invalid", false, "send the good rows of a file with wrong ones")
	outputFlag(c, &form, formTable, formJSON)
	return c
}

type importOptions struct {
	dryRun, resume, skipInvalid bool
	batch                       int
}

// summary is the result of an import.
type summary struct {
	DryRun    bool        `json:"dry_run"`
	Rows      int         `json:"rows"`
	Added     int         `json:"added"`
	Changed   int         `json:"changed"`
	Unchanged int         `json:"unchanged"`
	Failed    int         `json:"failed"`
	Failures  []failedRow `json:"failures"`
}

// failedRow is a row that was not imported. It holds no value of a secret
// field: see package declare.
type failedRow struct {
	Line  int    `json:"line"`
	ID    string `json:"id,omitempty"`
	Error string `json:"error"`
}

// importer is one import.
type importer struct {
	importOptions
	path     string
	node     *client
	out, err io.Writer
	checked  bool // the file was read to its end once
	// after is the last line that an earlier import has done.
	after   int
	summary summary
}

func (i *importer) run(ctx context.Context) error {
	f, err := os.Open(i.path)
	if err != nil {
		return err
	}
	defer f.Close()
	state, err := newResumeState(i.path)
	if err != nil {
		return err
	}
	if i.resume {
		if i.after, err = state.load(); err != nil {
			return err
		}
	}
	i.summary.DryRun = i.dryRun
	i.summary.Failures = []failedRow{}
	if err := i.check(ctx, f); err != nil {
		return err
	}
	i.checked = true
	if i.summary.Failed > 0 && !i.skipInvalid {
		return errReported
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := i.send(ctx, f, state); err != nil {
		return err
	}
	if !i.dryRun {
		if err := state.remove(); err != nil {
			return err
		}
	}
	if i.summary.Failed > 0 {
		return errReported
	}
	return nil
}

// fail records a row that is not imported.
func (i *importer) fail(line int, id, text string) {
	i.summary.Failed++
	if len(i.summary.Failures) < config.MaxProblems {
		i.summary.Failures = append(i.summary.Failures, failedRow{line, id, text})
	}
}

// check reads the whole file once, so that all wrong rows are known before
// anything is sent.
func (i *importer) check(ctx context.Context, f io.Reader) error {
	rows := declare.NewReader(i.path, f)
	first := map[string]int{}
	for {
		if err := ctx.Err(); err != nil {
			return errors.New("interrupted; nothing was sent")
		}
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", i.path, rows.Line(), err)
		}
		i.summary.Rows++
		if len(row.Faults) > 0 {
			i.fail(row.Line, "", row.Faults.Error())
			continue
		}
		id := row.Declaration.ID
		if line, taken := first[id]; taken {
			i.fail(row.Line, id, fmt.Sprintf("id: %s stands there twice, first in line %d", declare.Show(id), line))
			continue
		}
		first[id] = row.Line
	}
}

// batch is what goes into one request.
type batch struct {
	documents []json.RawMessage
	lines     []int
}

// send reads the file again and sends its good rows.
func (i *importer) send(ctx context.Context, f io.Reader, state *resumeState) error {
	rows := declare.NewReader(i.path, f)
	bar := newProgress(i.err, "rows", i.summary.Rows)
	defer bar.clear()
	seen := map[string]bool{}
	read := 0
	var b batch
	flush := func() error {
		if len(b.documents) == 0 {
			return nil
		}
		if err := i.sendBatch(ctx, b); err != nil {
			return err
		}
		if !i.dryRun {
			if err := state.save(b.lines[len(b.lines)-1]); err != nil {
				return err
			}
		}
		b = batch{}
		bar.set(read)
		return nil
	}
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", i.path, rows.Line(), err)
		}
		read++
		id := row.Declaration.ID
		if len(row.Faults) > 0 || seen[id] {
			continue // counted by check
		}
		seen[id] = true
		if row.Line <= i.after {
			continue
		}
		document, err := declare.Request(row.Declaration)
		if err != nil {
			return err
		}
		b.documents, b.lines = append(b.documents, document), append(b.lines, row.Line)
		if len(b.documents) == i.batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// sendBatch sends one batch, again when the node is busy: an import that is
// repeated changes nothing.
func (i *importer) sendBatch(ctx context.Context, b batch) error {
	body, err := json.Marshal(b.documents)
	if err != nil {
		return err
	}
	path := apiPath + "/profiles/import"
	if i.dryRun {
		path += "?dry_run=true"
	}
	var answer struct{ Results []actors.ImportResult }
	const tries = 10
	for try := 1; ; try++ {
		err = i.node.call(ctx, "POST", path, body, &answer)
		var refused *refusedError
		if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || try == tries {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return i.interrupted(err)
	}
	if len(answer.Results) != len(b.lines) {
		return fmt.Errorf("the node answered %d results for %d profiles", len(answer.Results), len(b.lines))
	}
	for n, r := range answer.Results {
		switch r.Result {
		case actors.ResultAdded:
			i.summary.Added++
		case actors.ResultChanged:
			i.summary.Changed++
		case actors.ResultUnchanged:
			i.summary.Unchanged++
		default:
			i.fail(b.lines[n], r.ID, printable(r.Error))
		}
	}
	return nil
}

// interrupted says how to go on.
func (i *importer) interrupted(err error) error {
	if i.dryRun {
		return err
	}
	return fmt.Errorf("%w; go on with: muster profiles import %s --resume", err, i.path)
}

// report says what happened, for people.
func (i *importer) report() {
	s := i.summary
	for _, f := range s.Failures {
		fmt.Fprintf(i.err, "%s:%d: %s\n", i.path, f.Line, f.Error)
	}
	if more := s.Failed - len(s.Failures); more > 0 {
		fmt.Fprintf(i.err, "and %d more\n", more)
	}
	if s.Failed > 0 && s.Added+s.Changed+s.Unchanged == 0 && !i.skipInvalid {
		fmt.Fprintf(i.err, "%s of %s wrong; nothing was imported (correct them, or give --skip-invalid)\n", thousands(s.Failed), counted(s.Rows, "row"))
		return
	}
	would := ""
	if s.DryRun {
		would = "would be "
	}
	fmt.Fprintf(i.out, "%s: %s%s added, %s changed, %s unchanged, %s failed\n",
		counted(s.Rows, "row"), would, thousands(s.Added), thousands(s.Changed), thousands(s.Unchanged), thousands(s.Failed))
	if i.after > 0 {
		fmt.Fprintf(i.out, "resumed after line %d; the rows before it are not counted again\n", i.after)
	}
}
