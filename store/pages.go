package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// The layout of a bbolt file (go.etcd.io/bbolt, internal/common). bbolt maps
// these structures and follows their offsets without looking; a flipped bit
// can make it read outside of the file, allocate without bound or serve an
// outdated page. So the rules are checked here first, with bounds.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	pageHeader   = 16 // id u64, flags u16, count u16, overflow u32
	elementSize  = 16 // leaf: flags, pos, ksize, vsize u32; branch: pos, ksize u32, page u64
	bucketHeader = 16 // root u64, sequence u64; an inline page follows if root is 0
	metaSize     = 64
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	leafIsBucket = 0x01
	noFreelist   = ^uint64(0)
	maxTreeDepth = 64
	minPageSize  = 1024
	maxPageSize  = 16 << 20
	maxFindings  = 100
)

// pageFile is a bbolt file seen without bbolt.
type pageFile struct {
	r        io.ReaderAt
	size     int64
	pageSize int
	root     uint64 // page of the root bucket
	freelist uint64
	limit    uint64   // pages from here on are not in use
	badHead  string   // what is wrong with one of the two heads
	used     []bool   // pages that the walk has seen
	buffers  [][]byte // one page for each depth of the tree
	buckets  []bucketRoot
	findings []string
}

// bucketRoot is where the records of a bucket are.
type bucketRoot struct {
	name   string
	page   uint64 // 0 if they are inside of the root page
	inline []byte // which is then this
}

// openPages reads the two heads. It fails only when neither can be used.
func openPages(f *os.File) (*pageFile, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	p := &pageFile{r: f, size: info.Size()}
	type head struct{ page, pageSize, root, freelist, limit, txid uint64 }
	var heads []head
	for _, at := range p.headOffsets() {
		buf := make([]byte, pageHeader+metaSize)
		if _, err := p.r.ReadAt(buf, at); err != nil {
			continue
		}
		m, order := buf[pageHeader:], binary.NativeEndian
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		size := uint64(order.Uint32(m[8:]))
		if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion ||
			order.Uint64(m[56:]) != sum.Sum64() ||
			size < minPageSize || size > maxPageSize || (at != 0 && uint64(at) != size) {
			continue
		}
		heads = append(heads, head{
			page: order.Uint64(buf), pageSize: size, root: order.Uint64(m[16:]),
			freelist: order.Uint64(m[32:]), limit: order.Uint64(m[40:]), txid: order.Uint64(m[48:]),
		})
		if order.Uint64(buf) != uint64(min(at, 1)) || order.Uint16(buf[8:]) != flagMeta {
			p.badHead = "the page header of a head is wrong"
		}
	}
	switch {
	case len(heads) == 0:
		return nil, &DamageError{Reason: fmt.Sprintf("it has %d bytes and neither of its two heads can be read, or it is no journal at all", p.size)}
	case len(heads) == 1:
		p.badHead = "one of its two heads cannot be read, so its last commit may be missing"
	case heads[0].pageSize != heads[1].pageSize || heads[0].page == heads[1].page:
		return nil, &DamageError{Reason: "its two heads contradict each other"}
	}
	newest := heads[len(heads)-1]
	if heads[0].txid > newest.txid {
		newest = heads[0]
	}
	p.pageSize, p.root = int(newest.pageSize), newest.root
	p.freelist, p.limit = newest.freelist, newest.limit
	if p.limit < 3 || p.limit > uint64(p.size)/newest.pageSize {
		return nil, &DamageError{Reason: fmt.Sprintf("it should have %d pages and is %d bytes long", p.limit, p.size)}
	}
	return p, nil
}

// headOffsets are where the two heads can be: at 0, and one page further,
// whatever the size of a page is.
func (p *pageFile) headOffsets() []int64 {
	at := []int64{0}
	for size := int64(minPageSize); size <= maxPageSize && size+pageHeader+metaSize <= p.size; size *= 2 {
		at = append(at, size)
	}
	return at
}

func (p *pageFile) report(format string, args ...any) {
	switch len(p.findings) {
	case maxFindings:
		p.findings = append(p.findings, "more of this kind are not listed")
	case maxFindings + 1:
	default:
		p.findings = append(p.findings, fmt.Sprintf(format, args...))
	}
}

type recordVisit func(key, value []byte)

// walk visits every record of one bucket, or of all with an empty name, in key
// order, and every page once. Damaged pages are reported and left out. key and
// value are only valid during the call.
func (p *pageFile) walk(bucket string, visit func(bucket string, key, value []byte)) {
	p.begin()
	for _, b := range p.buckets {
		if bucket == "" || bucket == b.name {
			p.bucket(b.name, func(key, value []byte) { visit(b.name, key, value) })
		}
	}
	if bucket == "" {
		p.countFree()
	}
}

// begin forgets what was seen and finds the buckets.
func (p *pageFile) begin() {
	p.used = make([]bool, p.limit)
	p.used[0], p.used[1] = true, true
	p.findings, p.buckets = nil, nil
	p.tree(p.root, 0, nil, nil, func(flags uint32, key, value []byte) {
		if flags != leafIsBucket || len(value) < bucketHeader {
			p.report("entry %q of the root is not a bucket", key)
			return
		}
		p.buckets = append(p.buckets, bucketRoot{string(key), binary.NativeEndian.Uint64(value), bytes.Clone(value[bucketHeader:])})
	})
}

// bucket visits the records of one bucket. It reports one that is not there.
func (p *pageFile) bucket(name string, visit recordVisit) {
	i := slices.IndexFunc(p.buckets, func(b bucketRoot) bool { return b.name == name })
	if i < 0 {
		p.report("it has no bucket %s", name)
		return
	}
	record := func(flags uint32, key, value []byte) {
		if flags != 0 {
			p.report("a record of bucket %s has flags %#x", name, flags)
			return
		}
		visit(key, value)
	}
	if b := p.buckets[i]; b.page == 0 {
		p.elements(b.inline, "inline page of bucket "+name, 1, nil, nil, record)
	} else {
		p.tree(b.page, 1, nil, nil, record)
	}
}

type leafVisit func(flags uint32, key, value []byte)

// tree visits the page and everything below it. Keys must lie in [low, high).
func (p *pageFile) tree(id uint64, depth int, low, high []byte, visit leafVisit) {
	if depth > maxTreeDepth {
		p.report("page %d: the tree is too deep", id)
		return
	}
	page, err := p.page(id, depth)
	if err != nil {
		p.report("page %d: %v", id, err)
		return
	}
	p.elements(page, fmt.Sprintf("page %d", id), depth, low, high, visit)
}

// page reads a page with its overflow and takes note of it. The page is valid
// until the next one of the same depth.
func (p *pageFile) page(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= p.limit {
		return nil, fmt.Errorf("there are only %d pages", p.limit)
	}
	for len(p.buffers) <= depth {
		p.buffers = append(p.buffers, make([]byte, p.pageSize))
	}
	page := p.buffers[depth]
	at := int64(id) * int64(p.pageSize)
	if _, err := p.r.ReadAt(page, at); err != nil {
		return nil, err
	}
	if got := binary.NativeEndian.Uint64(page); got != id {
		return nil, fmt.Errorf("it calls itself page %d", got)
	}
	overflow := uint64(binary.NativeEndian.Uint32(page[12:]))
	if overflow >= p.limit-id {
		return nil, errors.New("it is longer than the file")
	}
	for i := id; i <= id+overflow; i++ {
		if p.used[i] {
			return nil, fmt.Errorf("page %d is in use twice", i)
		}
		p.used[i] = true
	}
	if overflow > 0 {
		page = make([]byte, (overflow+1)*uint64(p.pageSize))
		if _, err := p.r.ReadAt(page, at); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// elements checks one branch or leaf page, or one inside of a value.
func (p *pageFile) elements(page []byte, name string, depth int, low, high []byte, visit leafVisit) {
	order := binary.NativeEndian
	if len(page) < pageHeader {
		p.report("%s: it is too short", name)
		return
	}
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		p.report("%s: its type is %#x", name, flags)
		return
	}
	data := pageHeader + count*elementSize
	if data > len(page) || (flags == flagBranch && count == 0) {
		p.report("%s: it cannot have %d entries", name, count)
		return
	}
	// cut gives n bytes at an offset that counts from its element.
	cut := func(element, offset, n int) ([]byte, bool) {
		from := element + offset
		if from < data || n < 0 || n > len(page)-from {
			return nil, false
		}
		return page[from : from+n : from+n], true
	}
	key := func(i int) ([]byte, bool) {
		at := pageHeader + i*elementSize
		if flags == flagBranch {
			return cut(at, int(order.Uint32(page[at:])), int(order.Uint32(page[at+4:])))
		}
		return cut(at, int(order.Uint32(page[at+4:])), int(order.Uint32(page[at+8:])))
	}
	for i := range count {
		k, ok := key(i)
		if !ok || len(k) == 0 {
			p.report("%s: entry %d lies outside of it", name, i)
			return
		}
		if bytes.Compare(k, low) < 0 || (i > 0 && bytes.Equal(k, low)) || (high != nil && bytes.Compare(k, high) >= 0) {
			p.report("%s: entry %d is out of order", name, i)
			return
		}
		low = k
		at := pageHeader + i*elementSize
		if flags == flagLeaf {
			pos := int(order.Uint32(page[at+4:])) + len(k)
			v, ok := cut(at, pos, int(order.Uint32(page[at+12:])))
			if !ok {
				p.report("%s: the value of entry %d lies outside of it", name, i)
				return
			}
			visit(order.Uint32(page[at:]), k, v)
			continue
		}
		next := high
		if i+1 < count {
			if next, ok = key(i + 1); !ok {
				p.report("%s: entry %d lies outside of it", name, i+1)
				return
			}
		}
		p.tree(order.Uint64(page[at+8:]), depth+1, k, next, visit)
	}
}

// countFree checks that every page is either in use or free. Without a list of
// free pages there is nothing to check: unused pages are free.
func (p *pageFile) countFree() {
	if p.freelist == noFreelist {
		return
	}
	page, err := p.page(p.freelist, 0)
	if err != nil {
		p.report("freelist page %d: %v", p.freelist, err)
		return
	}
	order := binary.NativeEndian
	ids, count := page[pageHeader:], uint64(order.Uint16(page[10:]))
	if count == 0xFFFF {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(page[8:]) != flagFreelist || count > uint64(len(ids))/8 {
		p.report("freelist page %d is not one", p.freelist)
		return
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= p.limit || p.used[id] {
			p.report("page %d cannot be free", id)
			continue
		}
		p.used[id] = true
	}
	for id, used := range p.used {
		if !used {
			p.report("page %d is neither in use nor free", id)
		}
	}
}
