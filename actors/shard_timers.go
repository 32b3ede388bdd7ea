package actors

import (
	"container/heap"
	"time"
)

func (s *shardActor) setWake(e *entry, at time.Time) {
	e.wakeAt = at
	if e.index >= 0 {
		heap.Fix(&s.wakes, e.index)
	} else {
		heap.Push(&s.wakes, e)
	}
	s.setTimer(time.Now())
}

func (s *shardActor) clearWake(e *entry) {
	if e.index >= 0 {
		heap.Remove(&s.wakes, e.index)
	}
}

// setTimer keeps one timer per shard at its earliest deadline.
func (s *shardActor) setTimer(now time.Time) {
	if len(s.wakes) == 0 {
		return
	}
	at := s.wakes[0].wakeAt
	if !s.armed.IsZero() && !at.Before(s.armed) {
		return
	}
	s.armed = at
	wait := max(at.Sub(now), time.Millisecond)
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, func() { s.farm.root.Send(s.self, &shardTick{}) })
		return
	}
	s.timer.Reset(wait)
}

// wakeHeap orders entries by wakeAt.
type wakeHeap []*entry

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].wakeAt.Before(h[j].wakeAt) }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *wakeHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
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
