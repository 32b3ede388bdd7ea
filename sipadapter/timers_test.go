package sipadapter

import (
	"slices"
	"testing"
	"time"
)

// A row is in order, whoever comes and goes.
func TestRow(t *testing.T) {
	base := time.Now()
	all := make([]*transaction, 6)
	for i := range all {
		all[i] = &transaction{deadline: deadline{due: base.Add(time.Duration(i))}}
	}
	var r row
	check := func(want ...int) {
		t.Helper()
		var forth, back []int
		for tx := r.first; tx != nil; tx = tx.after {
			forth = append(forth, slices.Index(all, tx))
		}
		for tx := r.last; tx != nil; tx = tx.before {
			back = append(back, slices.Index(all, tx))
		}
		slices.Reverse(back)
		if !slices.Equal(forth, want) || !slices.Equal(back, want) {
			t.Errorf("%v and back %v, want %v", forth, back, want)
		}
	}
	for _, i := range []int{1, 0, 2, 5, 4, 3} {
		r.add(all[i])
	}
	check(0, 1, 2, 3, 4, 5)
	r.remove(all[0])
	r.remove(all[3])
	r.remove(all[5])
	check(1, 2, 4)
	r.add(all[5])
	r.add(all[0])
	check(0, 1, 2, 4, 5)
	for _, i := range []int{1, 5, 0, 4, 2} {
		if r.remove(all[i]); all[i].neighbours != (neighbours{}) {
			t.Errorf("%d keeps %+v", i, all[i].neighbours)
		}
	}
	check()
}
