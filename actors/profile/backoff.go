package profile

import "time"

// backoff is RFC 5626 §4.5: W = min(max-time, base-time * 2^failures), and the
// wait is uniform in 50 to 100 % of W. failures counts the one that has just
// happened, so the first wait is 30 to 60 s with the RFC's numbers.
func backoff(base, ceiling time.Duration, failures uint32, jitter float64) time.Duration {
	w := ceiling
	if base <= ceiling>>failures { // else base<<failures is more, or overflows
		w = base << failures
	}
	return w/2 + time.Duration(jitter*float64(w/2))
}

// refreshAfter is when a grant is refreshed: the transaction must end before
// the binding does, at half time for short grants (RFC 5627 §4.2), and bursts
// are spread over 80 to 100 % of what is allowed (REG-15, REG-17).
func refreshAfter(granted, floor time.Duration, jitter float64) time.Duration {
	allowed := granted / 2
	if granted > 2*refreshMargin {
		allowed = granted - refreshMargin
	}
	wait := allowed*8/10 + time.Duration(jitter*float64(allowed*2/10))
	return max(wait, floor)
}
