package actors

import (
	"container/heap"
	"time"
)

func (s *shardActor) setWake(e *entry, at time.Time) {
	e.wakeAt = at.UnixNano()
	if e.index >= 0 {
		heap.Fix(&s.wakes, int(e.index))
	} else {
		heap.Push(&s.wakes, e)
	}
	s.setTimer()
}

func (s *shardActor) clearWake(e *entry) {
	if e.index >= 0 {
		heap.Remove(&s.wakes, int(e.index))
	}
}

// setTimer has the clock wake the shard at its earliest deadline.
func (s *shardActor) setTimer() {
	if len(s.wakes) > 0 {
		s.farm.clock.set(s.number, time.Unix(0, s.wakes[0].wakeAt))
	}
}

// wakeHeap orders entries by wakeAt.
type wakeHeap []*entry

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].wakeAt < h[j].wakeAt }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}

func (h *wakeHeap) Push(x any) {
	e := x.(*entry)
	e.index = int32(len(*h))
	*h = append(*h, e)
}

func (h *wakeHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
