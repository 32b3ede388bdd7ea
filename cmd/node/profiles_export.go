package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/admin/declare"
)

func newProfilesExport(to *connection) *cobra.Command {
	var f filter
	var form, path string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write all declarations, without secrets",
		Long: `Export writes the declaration of every profile as JSON lines or CSV, in the form
that import reads. Secrets are write-only and are not part of it.`,
		Example: `  muster profiles export > profiles.jsonl
  muster profiles export -o csv --out profiles.csv
  muster profiles export --registrar acme --state rejected`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			node, err := to.open(c)
			if err != nil {
				return err
			}
			answer, err := node.send(c.Context(), "GET", apiPath+"/profiles/export?"+f.query().Encode(), nil)
			if err != nil {
				return err
			}
			defer answer.Close()
			write := func(w io.Writer) error {
				if form == formCSV {
					return exportCSV(w, answer)
				}
				_, err := io.Copy(w, answer)
				return err
			}
			if path == "" {
				err = write(c.OutOrStdout())
			} else {
				err = writeFile(path, write)
			}
			if err != nil {
				return fmt.Errorf("export was cut off: %w", err)
			}
			return nil
		},
	}
	f.flags(c)
	c.Flags().StringVar(&path, "out", "", "write to this `FILE` instead of the standard output")
	outputFlag(c, &form, formJSON, formCSV)
	return c
}

// exportCSV turns JSON lines into CSV with every column of the contract.
func exportCSV(w io.Writer, lines io.Reader) error {
	out := csv.NewWriter(w)
	columns := declare.Columns()
	if err := out.Write(columns); err != nil {
		return err
	}
	in := json.NewDecoder(bufio.NewReader(lines))
	in.UseNumber()
	for {
		var fields map[string]any
		switch err := in.Decode(&fields); {
		case errors.Is(err, io.EOF):
			out.Flush()
			return out.Error()
		case err != nil:
			return err
		}
		record := make([]string, len(columns))
		for i, name := range columns {
			if value, ok := fields[name]; ok {
				record[i] = fmt.Sprint(value)
			}
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
}

// writeFile writes a file that only its owner may read, under another name
// until it is whole.
func writeFile(path string, write func(io.Writer) error) (err error) {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp, path)
}
