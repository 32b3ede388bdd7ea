package sipadapter

import (
	"hash/fnv"
	"slices"
)

// plan is where a next hop can be reached: groups in order of priority.
type plan struct{ groups []group }

// group holds servers of equal priority.
type group []server

// server is one SRV record with the addresses of its target.
type server struct {
	weight  uint16
	targets []target
}

// dice draws a number in [0,n).
type dice func(n int) int

// diceFor gives the same numbers for the same Call-ID, so that all requests of
// a registration go to the same server as long as DNS says the same: refreshes
// should (RFC 3261 §10.2.4), and the answer to a challenge must find the server
// that knows the nonce. It is the hash that RFC 3263 §4.4 describes.
func diceFor(callID string) dice {
	h := fnv.New64a()
	_, _ = h.Write([]byte(callID))
	state := h.Sum64()
	return func(n int) int {
		state += 0x9e3779b97f4a7c15 // SplitMix64
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return int((z ^ z>>31) % uint64(n))
	}
}

// order draws the order in which the requests of a Call-ID try the targets (RFC
// 2782): by priority, and inside one by weight. The caller may change it.
func (p plan) order(callID string) []target {
	if len(p.groups) == 1 && len(p.groups[0]) == 1 && len(p.groups[0][0].targets) == 1 {
		return slices.Clone(p.groups[0][0].targets)
	}
	return p.roll(diceFor(callID))
}

func (p plan) roll(roll dice) []target {
	var targets []target
	for _, g := range p.groups {
		left := slices.Clone(g)
		slices.SortStableFunc(left, func(x, y server) int {
			return min(int(x.weight), 1) - min(int(y.weight), 1)
		})
		for len(left) > 0 {
			i := draw(left, roll)
			targets = append(targets, rotate(left[i].targets, roll)...)
			left = slices.Delete(left, i, i+1)
		}
	}
	return targets
}

// draw needs the servers of weight 0 in front. When there are some, one of
// them is chosen if the number is 0; RFC 2782 lets 0 be drawn in any case,
// which would favour the first of two equal servers by two to one.
func draw(servers []server, roll dice) int {
	sum, zeros := 0, 0
	for _, s := range servers {
		sum += int(s.weight)
		if s.weight == 0 {
			zeros++
		}
	}
	lowest := 1
	if zeros > 0 {
		lowest = 0
	}
	mark := lowest + roll(sum+1-lowest)
	if mark == 0 {
		return roll(zeros)
	}
	running := 0
	for i, s := range servers {
		if running += int(s.weight); running >= mark {
			return i
		}
	}
	return len(servers) - 1
}

// rotate spreads the requests over the addresses of one name. The families
// keep the order of the system's resolver (RFC 6724); inside a family a
// resolver's order means nothing and changes from answer to answer.
func rotate(targets []target, roll dice) []target {
	if len(targets) < 2 {
		return targets
	}
	first := targets[0].addr.Addr().Is4()
	out := make([]target, 0, len(targets))
	for _, is4 := range []bool{first, !first} {
		var family []target
		for _, t := range targets {
			if t.addr.Addr().Is4() == is4 {
				family = append(family, t)
			}
		}
		slices.SortFunc(family, func(x, y target) int { return x.addr.Compare(y.addr) })
		if n := len(family); n > 0 {
			i := roll(n)
			out = append(append(out, family[i:]...), family[:i]...)
		}
	}
	return out
}
