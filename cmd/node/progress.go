package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a long command is: a bar on a terminal, a plain line
// every few seconds elsewhere, for logs.
type progress struct {
	w       io.Writer
	what    string
	total   int
	bar     *progressbar.ProgressBar
	started time.Time
	said    time.Time
	last    int
}

// plainEvery is the time between plain lines.
const plainEvery = 5 * time.Second

// newProgress begins at 0. what completes "12 of 90 ".
func newProgress(w io.Writer, what string, total int) *progress {
	p := &progress{w: w, what: what, total: total, started: time.Now(), said: time.Now()}
	if isTerminal(w) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionFullWidth(),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionUseANSICodes(true),
		)
	}
	return p
}

// set shows that done of the total are done.
func (p *progress) set(done int) {
	p.last = done
	if p.bar != nil {
		// A bar that cannot be drawn is not worth an error.
		_ = p.bar.Set(done)
		return
	}
	if time.Since(p.said) >= plainEvery {
		p.said = time.Now()
		fmt.Fprintf(p.w, "%s of %s %s\n", thousands(done), thousands(p.total), p.what)
	}
}

// finish removes the bar and says the result in one line.
func (p *progress) finish() {
	p.clear()
	fmt.Fprintf(p.w, "%s of %s %s in %s\n", thousands(p.last), thousands(p.total), p.what, time.Since(p.started).Round(100*time.Millisecond))
}

// clear removes the bar, so that other lines can be written.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
