package measure

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Process is another process, by its number.
type Process int

func (p Process) path(name string) string { return fmt.Sprintf("/proc/%d/%s", int(p), name) }

// CPU is the user and system time of the process so far, and of its children
// that have ended.
func (p Process) CPU() time.Duration {
	text, err := os.ReadFile(p.path("stat"))
	if err != nil {
		return 0
	}
	// The name, in parentheses, can hold anything.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const first, count = 11, 4 // utime, stime, cutime, cstime
	if len(fields) < first+count {
		return 0
	}
	var sum time.Duration
	for _, field := range fields[first : first+count] {
		var ticks int64
		_, _ = fmt.Sscan(field, &ticks)
		const tick = 10 * time.Millisecond // USER_HZ
		sum += time.Duration(ticks) * tick
	}
	return sum
}

// Memory is the resident memory in bytes: the process's own, what it maps of
// files (the program, and the page cache of the store), and the most of both
// that there ever was.
func (p Process) Memory() (anon, file, peak int64) {
	status := p.path("status")
	return procField(status, "RssAnon") << 10, procField(status, "RssFile") << 10, procField(status, "VmHWM") << 10
}
