package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/cmd/node/config"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// journalName is the journal's file in a data folder.
const journalName = "journal.db"

func newJournal() *cobra.Command {
	c := group(&cobra.Command{
		Use:   "journal",
		Short: "Verify, read and back up the journal of a node",
		Long: `The journal is the file journal.db in the data folder: every decision of a node,
in order. verify and dump need a stopped node, or a backup; backup also works
with a running node.`,
	})
	c.AddCommand(newJournalVerify(), newJournalDump(), newJournalBackup())
	return c
}

// journalPlace is how a journal is named on the command line.
type journalPlace struct{ dataDir, config string }

func (p *journalPlace) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.dataDir, "data-dir", "", "data `FOLDER` of a stopped node")
	c.Flags().StringVarP(&p.config, "config", "c", "", "configuration `FILE` of a stopped node")
}

// folder finds the data folder; given tells whether it was named at all.
func (p *journalPlace) folder(c *cobra.Command) (folder string, given bool, err error) {
	switch {
	case p.dataDir != "" && p.config != "":
		return "", true, wrongUse(c, "give --data-dir or --config, not both")
	case p.dataDir != "":
		return p.dataDir, true, nil
	case p.config == "":
		return "", false, nil
	}
	folder, err = config.DataDir(p.config)
	return folder, true, err
}

// file finds the journal: an argument names the file itself.
func (p *journalPlace) file(c *cobra.Command, args []string) (string, error) {
	folder, given, err := p.folder(c)
	switch {
	case err != nil:
		return "", err
	case given && len(args) > 0:
		return "", wrongUse(c, "give a journal file, or --data-dir or --config, not both")
	case len(args) > 0:
		return args[0], nil
	case !given:
		return "", wrongUse(c, "%s needs --data-dir, --config, or the path of a journal or backup", c.CommandPath())
	}
	return filepath.Join(folder, journalName), nil
}

// inUse says what to do about a journal that a node holds.
func inUse(err error, mend string) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w (%s)", err, mend)
	}
	return err
}

const stopOrBackup = "stop the node, or make a copy with \"muster journal backup --server URL\" and look at that"

func newJournalVerify() *cobra.Command {
	var place journalPlace
	var form string
	c := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Look for damage in a journal",
		Long: `Verify reads the whole journal of a stopped node, or a backup, and lists everything
that is wrong: checksums, missing records, events that do not follow from each
other. It changes nothing. The exit code is 1 when something was found.`,
		Example: `  muster journal verify --config muster.yaml
  muster journal verify backup.db -o json`,
		Args: arguments(0, 1, "at most one file"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := place.file(c, args)
			if err != nil {
				return err
			}
			report, err := store.Verify(path)
			if err != nil {
				return inUse(err, stopOrBackup)
			}
			if report.Findings == nil {
				report.Findings = []store.Finding{}
			}
			if form == formJSON {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				printReport(c.OutOrStdout(), path, report)
			}
			if err == nil && !report.OK() {
				err = errReported
			}
			return err
		},
	}
	place.flags(c)
	outputFlag(c, &form, formTable, formJSON)
	return c
}

func printReport(w io.Writer, path string, r store.Report) {
	for _, f := range r.Findings {
		fmt.Fprintln(w, printable(f.String()))
	}
	if !r.OK() {
		fmt.Fprintf(w, "%s is damaged: %s\n", path, counted(len(r.Findings), "finding"))
		return
	}
	fmt.Fprintf(w, "%s is sound: %s of %s, records %d to %d, checkpoint %d, %s, %s, %s\n", path,
		counted(r.Events, "event"), counted(r.Streams, "stream"), r.First, r.Last, r.Checkpoint,
		counted(r.Snapshots, "snapshot"), counted(r.Secrets, "sealed secret"), counted(int(r.FileBytes), "byte"))
}

func newJournalDump() *cobra.Command {
	var place journalPlace
	var profile, out string
	c := &cobra.Command{
		Use:   "dump [FILE]",
		Short: "Write the events of a journal as JSON lines",
		Long: `Dump writes every event of a stopped node's journal, or of a backup, oldest first,
as one JSON object a line. There are no secrets in events.`,
		Example: `  muster journal dump --data-dir data
  muster journal dump backup.db --profile sip:alice@example.test
  muster journal dump --config muster.yaml --out events.jsonl`,
		Args: arguments(0, 1, "at most one file"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := place.file(c, args)
			if err != nil {
				return err
			}
			var keep func(uint64, *messages.Envelope) bool
			if profile != "" {
				keep = func(_ uint64, e *messages.Envelope) bool { return e.GetStream() == "p/"+profile }
			}
			dump := func(w io.Writer) error { return store.Dump(path, w, keep) }
			if out == "" {
				err = dump(c.OutOrStdout())
			} else {
				err = writeFile(out, dump)
			}
			return inUse(err, stopOrBackup)
		},
	}
	place.flags(c)
	c.Flags().StringVar(&profile, "profile", "", "only events of the profile with this `ID`")
	c.Flags().StringVar(&out, "out", "", "write to this `FILE` instead of the standard output")
	return c
}

func newJournalBackup() *cobra.Command {
	var place journalPlace
	var to connection
	var out string
	c := &cobra.Command{
		Use:   "backup --out FILE",
		Short: "Copy the journal, also of a running node",
		Long: `Backup writes a consistent copy of the journal and verifies it. Without --data-dir
or --config it asks the running node (--server); a stopped node's folder is read
directly.

To restore, stop the node and put the copy into the data folder as journal.db.
The copy holds sealed secrets, which open only with the node's key file; keep
that elsewhere.`,
		Example: `  muster journal backup --out muster-$(date +%F).db
  muster journal backup --config muster.yaml --out copy.db`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := required(c, "out", out); err != nil {
				return err
			}
			folder, given, err := place.folder(c)
			switch {
			case err != nil:
				return err
			case given && c.Flags().Changed("server"):
				return wrongUse(c, "give --server for a running node, or --data-dir or --config for a stopped one")
			case given:
				err = backupFolder(c, folder, out)
			default:
				err = backupNode(c, &to, out)
			}
			if err != nil {
				return err
			}
			info, err := os.Stat(out)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s holds a verified copy of %s\n", out, counted(int(info.Size()), "byte"))
			return nil
		},
	}
	place.flags(c)
	to.flags(c)
	c.Flags().StringVar(&out, "out", "", "`FILE` to write; an older one is replaced when the new one is whole")
	return c
}

// backupFolder copies the journal of a stopped node.
func backupFolder(c *cobra.Command, folder, out string) error {
	// Opening would make a new journal.
	if _, err := os.Stat(filepath.Join(folder, journalName)); err != nil {
		return err
	}
	s, err := store.Open(store.Options{Dir: folder, CheckpointEvery: -1})
	if err != nil {
		return inUse(err, "the node is running: give --server instead")
	}
	return errors.Join(s.BackupTo(c.Context(), out), s.Close())
}

// backupNode streams the journal of a running node.
func backupNode(c *cobra.Command, to *connection, out string) error {
	node, err := to.open(c)
	if err != nil {
		return err
	}
	answer, err := node.send(c.Context(), "GET", "/-/backup", nil)
	if err != nil {
		return err
	}
	defer answer.Close()
	temp := out + ".part"
	defer os.Remove(temp) // unless it was renamed
	err = writeFile(temp, func(w io.Writer) error {
		_, err := io.Copy(w, answer)
		return err
	})
	if err != nil {
		return fmt.Errorf("backup was cut off: %w", err)
	}
	report, err := store.Verify(temp)
	if err != nil {
		return fmt.Errorf("verify the backup: %w", err)
	}
	if !report.OK() {
		return fmt.Errorf("the backup is not sound, %s: %s", counted(len(report.Findings), "finding"), report.Findings[0])
	}
	return os.Rename(temp, out)
}
