package profile

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/sipmuster/muster/messages"
)

// codec packs or unpacks one state. Each optional field takes a bit, and
// nothing else when it is empty.
type codec struct {
	texts Texts
	id    string
	// reading is true to unpack.
	reading bool
	present uint64
	bits    int
	// last is the last time that was passed over: the next one is near it.
	last int64
	// token is the last text that stood in a challenge by itself; several
	// challenges of one response often have one nonce.
	token string

	// room holds what is packed, up to end, and more what does not fit.
	room [packedRoom]byte
	end  int
	more []byte
	// made is how many bytes unpacking must make that do not stand in the
	// packed string as they are. They are the content of text, whose size is
	// known before: its parts stay valid while it grows.
	made int
	in   string
	at   int
	text strings.Builder
	// answer is room for the only answer.
	answer []*messages.NonceCount
}

// packedRoom is enough for the usual state.
const packedRoom = 256

func (c *codec) putBit(set bool) bool {
	if set {
		c.present |= 1 << c.bits
	}
	c.bits++
	return set
}

func (c *codec) bit() bool {
	set := c.present>>c.bits&1 != 0
	c.bits++
	return set
}

//go:noinline
func (c *codec) flag(v *bool) {
	if c.reading {
		*v = c.bit()
		return
	}
	c.putBit(*v)
}

func (c *codec) number(v *uint32) {
	if c.reading {
		if c.bit() {
			*v = uint32(c.uvarint())
		}
		return
	}
	if c.putBit(*v != 0) {
		c.putUvarint(uint64(*v))
	}
}

func (c *codec) bigNumber(v *uint64) {
	if c.reading {
		if c.bit() {
			*v = c.uvarint()
		}
		return
	}
	if c.putBit(*v != 0) {
		c.putUvarint(*v)
	}
}

// counted passes over the length of a list and tells whether it has elements.
func (c *codec) counted(n *int) bool {
	v := uint64(*n)
	c.bigNumber(&v)
	*n = int(v)
	return *n > 0
}

// own passes over a text of this profile alone.
func (c *codec) own(s *string) { c.optional(s, false) }

// shared passes over a text that other profiles have too.
func (c *codec) shared(s *string) { c.optional(s, true) }

func (c *codec) optional(s *string, shared bool) {
	if c.reading {
		if c.bit() {
			*s = c.readText()
		}
		return
	}
	if c.putBit(*s != "") {
		c.putText(*s, shared)
	}
}

func (c *codec) sharedList(list *[]string) {
	n := len(*list)
	if !c.counted(&n) {
		return
	}
	if c.reading {
		*list = make([]string, n)
		for i := range *list {
			(*list)[i] = c.readText()
		}
		return
	}
	for _, s := range *list {
		c.putText(s, true)
	}
}

// A text is a number, whose lower bits tell its form, and what follows.
const (
	formInline = iota // the length; the bytes follow
	formWord          // the number that Texts gave
	formHex           // the length in bytes; they follow
	formOther         // one of those below
	formBits   = 2
	formMask   = 1<<formBits - 1
)

// The other forms. From otherBase64 on, it counts the groups of three bytes
// that follow: four characters each of base64 without padding.
const (
	otherID = iota
	otherUser
	otherToken
	otherBase64
)

func (c *codec) putForm(form int, n uint64) { c.putUvarint(n<<formBits | uint64(form)) }

func (c *codec) putText(s string, shared bool) {
	if shared && c.texts != nil && len(s) > 1 {
		if n, ok := c.texts.Number(s, c.id); ok {
			c.putForm(formWord, n)
			return
		}
	}
	switch {
	case s == c.id:
		c.putForm(formOther, otherID)
	case s != "" && s == c.token:
		c.putForm(formOther, otherToken)
	case c.putHex(s):
	case s == messages.UserPart(c.id):
		c.putForm(formOther, otherUser)
	default:
		c.putInline(s)
	}
}

func (c *codec) putInline(s string) {
	c.putForm(formInline, uint64(len(s)))
	c.putString(s)
}

// putHex packs an even number of lower-case hexadecimal digits.
func (c *codec) putHex(s string) bool {
	var room [64]byte
	n := len(s) / 2
	if n < 2 || n > len(room) || len(s)%2 != 0 {
		return false
	}
	for i := range n {
		high, low := digits[s[2*i]], digits[s[2*i+1]]
		if high|low > 0xf {
			return false
		}
		room[i] = high<<4 | low
	}
	c.putForm(formHex, uint64(n))
	c.putBytes(room[:n])
	c.made += len(s)
	return true
}

// digits are the values of lower-case hexadecimal digits; other bytes are
// above 15.
var digits = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i, digit := range "0123456789abcdef" {
		table[digit] = byte(i)
	}
	return table
}()

// putToken packs a text that a server chose at random.
func (c *codec) putToken(s string) {
	switch {
	case s == c.token:
		c.putForm(formOther, otherToken)
	case c.putHex(s), c.putBase64(s):
	default:
		c.putInline(s)
	}
	c.token = s
}

func (c *codec) putBase64(s string) bool {
	var room [96]byte
	groups := len(s) / 4
	if groups < 2 || len(s)%4 != 0 || 3*groups > len(room) {
		return false
	}
	// Padding and line ends, which Decode knows too, give fewer bytes.
	if n, err := base64.StdEncoding.Decode(room[:], []byte(s)); err != nil || n != 3*groups {
		return false
	}
	c.putForm(formOther, otherBase64+uint64(groups))
	c.putBytes(room[:3*groups])
	c.made += len(s)
	return true
}

func (c *codec) readText() string {
	head := c.uvarint()
	n := head >> formBits
	switch head & formMask {
	case formInline:
		return c.take(int(n))
	case formWord:
		return c.texts.Text(n)
	case formHex:
		return c.makeHex(c.take(int(n)))
	}
	switch n {
	case otherID:
		return c.id
	case otherUser:
		return messages.UserPart(c.id)
	case otherToken:
		return c.token
	}
	return c.makeBase64(c.take(3 * int(n-otherBase64)))
}

func (c *codec) makeHex(packed string) string {
	start := c.text.Len()
	var room [64]byte
	for packed != "" {
		n := min(len(packed), len(room)/2)
		_, _ = c.text.Write(hex.AppendEncode(room[:0], []byte(packed[:n])))
		packed = packed[n:]
	}
	return c.text.String()[start:]
}

func (c *codec) makeBase64(packed string) string {
	start := c.text.Len()
	var room [64]byte
	for packed != "" {
		n := min(len(packed), len(room)/4*3)
		_, _ = c.text.Write(base64.StdEncoding.AppendEncode(room[:0], []byte(packed[:n])))
		packed = packed[n:]
	}
	return c.text.String()[start:]
}

// putChallenge packs a challenge as what stands around its nonce and opaque,
// which recurs, and these two, which do not: the number of the latter, then
// all parts in their order.
func (c *codec) putChallenge(raw string) {
	var room [8]string
	parts := room[:0]
	rest, from := raw, 0
	for len(parts) < len(room)-2 {
		start, end := tokenIn(rest, from)
		if start < 0 {
			break
		}
		if start == end {
			from = end
			continue
		}
		parts = append(parts, rest[:start], rest[start:end])
		rest, from = rest[end:], 0
	}
	c.putUvarint(uint64(len(parts) / 2))
	if len(parts) == 0 {
		// A nonce in an unusual place must not be shared.
		c.putText(raw, !strings.Contains(strings.ToLower(raw), "nonce"))
		return
	}
	made := c.made
	for i, part := range parts {
		if i%2 == 0 {
			c.putText(part, true)
		} else {
			c.putToken(part)
		}
	}
	c.putText(rest, true)
	c.made = made + len(raw)
}

// tokenIn finds the value of the next quoted nonce or opaque. It need not be
// right about odd challenges: the parts give the whole in any case.
func tokenIn(s string, from int) (start, end int) {
	for {
		i := strings.IndexByte(s[from:], '=')
		if i < 0 || from+i+1 == len(s) {
			return -1, -1
		}
		name := s[:from+i]
		from += i + 1
		if s[from] != '"' {
			continue
		}
		from++
		if hasSuffixFold(name, "nonce") || hasSuffixFold(name, "opaque") {
			if n := strings.IndexByte(s[from:], '"'); n >= 0 {
				return from, from + n
			}
		}
	}
}

func hasSuffixFold(s, suffix string) bool {
	const lower = 'a' - 'A'
	return len(s) >= len(suffix) && s[len(s)-1]|lower == suffix[len(suffix)-1] && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

func (c *codec) readChallenge() string {
	tokens := int(c.uvarint())
	if tokens == 0 {
		return c.readText()
	}
	start := c.text.Len()
	for i := range 2*tokens + 1 {
		before := c.text.Len()
		part := c.readText()
		if c.text.Len() == before { // else it is where it belongs
			_, _ = c.text.WriteString(part)
		}
		if i%2 == 1 {
			c.token = part
		}
	}
	return c.text.String()[start:]
}

func (c *codec) putByte(b byte) {
	if c.end < len(c.room) {
		c.room[c.end] = b
		c.end++
		return
	}
	c.more = append(c.more, b)
}

func (c *codec) putString(s string) {
	n := copy(c.room[c.end:], s)
	c.end += n
	if n < len(s) {
		c.more = append(c.more, s[n:]...)
	}
}

func (c *codec) putBytes(b []byte) {
	n := copy(c.room[c.end:], b)
	c.end += n
	if n < len(b) {
		c.more = append(c.more, b[n:]...)
	}
}

// putUvarint and uvarint stand in one place each: a copy for every field is more
// code than the processor keeps between two profiles.
//
//go:noinline
func (c *codec) putUvarint(v uint64) {
	for v >= 0x80 {
		c.putByte(byte(v) | 0x80)
		v >>= 7
	}
	c.putByte(byte(v))
}

func (c *codec) putVarint(v int64) { c.putUvarint(uint64(v<<1) ^ uint64(v>>63)) }

//go:noinline
func (c *codec) uvarint() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := c.in[c.at]
		c.at++
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

func (c *codec) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *codec) take(n int) string {
	s := c.in[c.at : c.at+n]
	c.at += n
	return s
}
