package webhook

import (
	"crypto/sha256"
	"sync"
	"time"
)

// remembered is how many questions one generation holds: two of them are about
// 10 MB.
const remembered = 1 << 17

// sightings knows which refs were seen, in bounded memory. Refs are kept in two
// generations; when the younger one is full or every signature in it is too
// old anyway, the older one is forgotten and the floor rises to its youngest
// signature. What is signed at the floor or before is refused, so nothing that
// was forgotten is taken for new.
type sightings struct {
	mu       sync.Mutex
	skew     time.Duration
	most     int
	young    generation
	old      generation
	floor    int64
	hasFloor bool
}

type generation struct {
	refs     map[[16]byte]struct{}
	began    time.Time
	youngest int64
}

func newSightings(skew time.Duration, most int) *sightings {
	return &sightings{skew: skew, most: most}
}

// fresh tells whether a ref, signed at a time in seconds, is seen for the first
// time.
func (s *sightings) fresh(ref string, signed int64, now time.Time) bool {
	sum := sha256.Sum256([]byte(ref))
	key := [16]byte(sum[:16])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasFloor && signed <= s.floor {
		return false
	}
	if _, seen := s.young.refs[key]; seen {
		return false
	}
	if _, seen := s.old.refs[key]; seen {
		return false
	}
	if len(s.young.refs) >= s.most || now.Sub(s.young.began) > 2*s.skew {
		s.turn(now)
	}
	s.young.refs[key] = struct{}{}
	s.young.youngest = max(s.young.youngest, signed)
	return true
}

func (s *sightings) turn(now time.Time) {
	if len(s.old.refs) > 0 {
		s.floor, s.hasFloor = max(s.floor, s.old.youngest), true
	}
	s.old = s.young
	s.young = generation{refs: map[[16]byte]struct{}{}, began: now}
}
