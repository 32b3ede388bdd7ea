package messages

import "time"

// ToMS is a time as events and snapshots hold it: milliseconds since the Unix
// epoch, 0 for the zero time.
func ToMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMS is the time that ToMS wrote, in UTC.
func FromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
