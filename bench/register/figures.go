package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// figures are what the node counts.
type figures struct {
	granted, failed, requests, retransmitted float64
	// late counts refreshes after the end of their binding; close those that came
	// in its last five seconds, late ones included.
	late, close uint64
}

func read(node *muster.Node) figures {
	var f figures
	families, err := node.Metrics().Gatherer().Gather()
	if err != nil {
		return f
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			value := m.GetCounter().GetValue()
			switch family.GetName() {
			case "muster_sip_requests_total":
				f.requests += value
			case "muster_sip_retransmissions_total":
				f.retransmitted += value
			case "muster_refresh_margin_seconds":
				for _, b := range m.GetHistogram().GetBucket() {
					switch b.GetUpperBound() {
					case 0:
						f.late += b.GetCumulativeCount()
					case 5:
						f.close += b.GetCumulativeCount()
					}
				}
			case "muster_registrations_total":
				for _, label := range m.GetLabel() {
					switch label.GetValue() {
					case "granted":
						f.granted += value
					case "failed", "rejected", "lapsed":
						f.failed += value
					}
				}
			}
		}
	}
	return f
}

func report(before, after figures) {
	fmt.Printf("%-32s %.3f REGISTERs each, %.0f retransmissions, %.0f failed, %d after the end of their binding, %d less than 5 s before\n", "",
		(after.requests-before.requests)/(after.granted-before.granted), after.retransmitted-before.retransmitted, after.failed-before.failed,
		after.late-before.late, after.close-before.close-(after.late-before.late))
}

// reportLag reads in the journal when each refresh was due and when it began.
func reportLag(journal string) error {
	due := map[string]int64{} // in milliseconds, by stream
	var lags []time.Duration
	err := store.Dump(journal, io.Discard, func(_ uint64, e *messages.Envelope) bool {
		if granted := e.GetProfile().GetBindingGranted(); granted != nil {
			due[e.GetStream()] = granted.GetRefreshAtMs()
		}
		if at := due[e.GetStream()]; at != 0 && e.GetProfile().GetAttemptStarted() != nil {
			lags = append(lags, time.Duration(e.GetAtUnixNano())-time.Duration(at)*time.Millisecond)
			delete(due, e.GetStream())
		}
		return false
	})
	if err != nil || len(lags) == 0 {
		return err
	}
	slices.Sort(lags)
	share := func(p int) time.Duration { return lags[(len(lags)-1)*p/1000].Round(time.Millisecond) }
	fmt.Printf("%-32s median %v, p99 %v, p99.9 %v, longest %v, of %d\n", "refreshes began late by",
		share(500), share(990), share(999), share(1000), len(lags))
	return nil
}
