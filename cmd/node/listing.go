package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

// maxPage is the largest page that the API gives.
const maxPage = 1000

// listing is a collection of the API, which comes in pages.
type listing struct {
	node *client
	// name is that of the path and of the JSON field.
	name  string
	query url.Values
	limit int
	all   bool
}

// given makes a query of what is not empty.
func given(fields map[string]string) url.Values {
	q := url.Values{}
	for name, value := range fields {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// each asks for pages until limit entries came, or all of them. It returns
// after what more would come, empty when nothing.
func (l listing) each(c *cobra.Command, visit func(page []json.RawMessage) error) (next string, err error) {
	for left := l.limit; l.all || left > 0; {
		size := maxPage
		if !l.all {
			size = min(left, maxPage)
		}
		l.query.Set("limit", strconv.Itoa(size))
		var answer map[string]json.RawMessage
		if err := l.node.call(c.Context(), "GET", apiPath+"/"+l.name+"?"+l.query.Encode(), nil, &answer); err != nil {
			return "", err
		}
		var page []json.RawMessage
		if err := json.Unmarshal(answer[l.name], &page); err != nil {
			return "", fmt.Errorf("read the %s: %w", l.name, err)
		}
		if err := visit(page); err != nil {
			return "", err
		}
		if answer["next"] == nil {
			return "", nil
		}
		if err := json.Unmarshal(answer["next"], &next); err != nil {
			return "", fmt.Errorf("read the %s: %w", l.name, err)
		}
		left -= len(page)
		l.query.Set("after", next)
	}
	return next, nil
}

// table writes a row for each entry, and says when there are more. filters
// names the flags that make them fewer.
func (l listing) table(c *cobra.Command, t *table, filters string, row func(json.RawMessage) error) error {
	shown := 0
	next, err := l.each(c, func(page []json.RawMessage) error {
		for _, raw := range page {
			if err := row(raw); err != nil {
				return err
			}
			shown++
		}
		return t.flush()
	})
	if err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(c.ErrOrStderr(), "There are more than these %s; see --all and --limit, or filter with %s.\n", thousands(shown), filters)
	}
	return nil
}

// json writes one document, page by page.
func (l listing) json(c *cobra.Command) error {
	w := c.OutOrStdout()
	separator := fmt.Sprintf("{%q:[", l.name)
	next, err := l.each(c, func(page []json.RawMessage) error {
		for _, raw := range page {
			if _, err := fmt.Fprintf(w, "%s\n%s", separator, raw); err != nil {
				return err
			}
			separator = ","
		}
		return nil
	})
	if err != nil {
		return err
	}
	if separator != "," {
		_, err = io.WriteString(w, separator)
	}
	if err == nil {
		_, err = io.WriteString(w, "\n]")
	}
	if err == nil && next != "" {
		quoted, _ := json.Marshal(next) // a string is always JSON
		_, err = fmt.Fprintf(w, ",\"next\":%s", quoted)
	}
	if err == nil {
		_, err = io.WriteString(w, "}\n")
	}
	return err
}
