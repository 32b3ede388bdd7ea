package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// fileName is the journal inside the data folder.
	fileName = "journal.db"
	// newSuffix marks a file under construction; it is removed when found.
	newSuffix = ".new"
	// format is what this release makes of every file that it opens; it reads all
	// before it. Format 1 had no blocks in the journal.
	format = 2
	// lockTimeout is long enough for a predecessor that is just closing.
	lockTimeout = time.Second
	// minMap is the size of the memory map to begin with. Growing it later
	// makes the writer wait for all readers; address space costs nothing.
	minMap = 1 << 30
	// growth is by how much the file grows, with one more sync each time.
	growth = 4 << 20
	// spareSpace is what a disk must have left for a failed store to go on.
	spareSpace = 256 << 10
)

// counters is the one record that changes with every commit. Its bucket is so
// small that bbolt keeps it inside the root page, which a commit writes anyway.
type counters struct {
	// checkpoint: every event up to here is part of its stream's snapshot.
	checkpoint uint64
	epoch      uint64
	// first and last bound the journal; first is last+1 when it is empty.
	first, last uint64
	// bytes is the size of the records in the journal.
	bytes uint64
	// snapshots and snapshotSum find a lost or outdated page of snapshots.
	snapshots, snapshotSum uint64
}

const countersSize = crcSize + 7*8

func (c counters) put(tx *bolt.Tx) error {
	record := make([]byte, crcSize, countersSize)
	for _, v := range c.fields() {
		record = binary.BigEndian.AppendUint64(record, *v)
	}
	seal(metaCRC, []byte(metaCounters), record)
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaCounters), record)
}

// fields is the order of the numbers in the record.
func (c *counters) fields() []*uint64 {
	return []*uint64{
		&c.checkpoint, &c.epoch, &c.first, &c.last,
		&c.bytes, &c.snapshots, &c.snapshotSum,
	}
}

func decodeCounters(record []byte) (counters, error) {
	payload, ok := unseal(metaCRC, []byte(metaCounters), record)
	if !ok || len(record) != countersSize {
		return counters{}, &DamageError{Reason: "the record of its counters does not match its checksum"}
	}
	var c counters
	for i, v := range c.fields() {
		*v = binary.BigEndian.Uint64(payload[8*i:])
	}
	if c.first == 0 || c.first > c.last+1 || c.checkpoint > c.last || c.checkpoint+1 < c.first {
		return counters{}, &DamageError{Reason: fmt.Sprintf("its counters contradict each other (%+v)", c)}
	}
	return c, nil
}

// putFormat keeps older releases from a file in whose journal they would not find
// their way.
func putFormat(tx *bolt.Tx) error {
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaFormat), binary.BigEndian.AppendUint64(nil, format))
}

// checkFormat reads the meta bucket through get and refuses what this release
// does not understand.
func checkFormat(get func(key string) []byte) (counters, error) {
	number := func(key string) (uint64, error) {
		v := get(key)
		if len(v) != 8 {
			return 0, &DamageError{Reason: "its meta bucket has no " + key}
		}
		return binary.BigEndian.Uint64(v), nil
	}
	f, err := number(metaFormat)
	if err != nil {
		return counters{}, err
	}
	if f > format {
		return counters{}, fmt.Errorf("the journal has format %d and this release reads up to format %d: use a newer release", f, format)
	}
	shards, err := number(metaShards)
	if err != nil {
		return counters{}, err
	}
	if f == 0 || shards != Shards {
		return counters{}, &DamageError{Reason: fmt.Sprintf("format %d with %d shards was never written", f, shards)}
	}
	return decodeCounters(get(metaCounters))
}

// createFile makes an empty journal at path, or nothing: it is built under
// another name, because a bbolt file cannot be told from a foreign one while
// it is being initialised.
func createFile(path string, epoch uint64) error {
	temp := path + newSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove unfinished %s: %w", temp, err)
	}
	db, err := bolt.Open(temp, 0o600, boltOptions(0))
	if err != nil {
		return fmt.Errorf("create %s: %w", temp, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range bucketNames() {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte(bucketMeta))
		return errors.Join(
			putFormat(tx),
			meta.Put([]byte(metaShards), binary.BigEndian.AppendUint64(nil, Shards)),
			counters{epoch: epoch, first: 1}.put(tx))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("create %s: %w", temp, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// boltOptions for reading and writing. What decides whether a commit survives a
// power cut is left as it is: NoSync stays off (pages, then fdatasync, then one
// of two heads, then fdatasync), and so does NoGrowSync (the size of a file that
// grew is synced before anything is written there). The others:
//
//   - NoFreelistSync: the list of free pages is not written. It says nothing that
//     the pages in use do not say, so a crash is as safe. It would be part of
//     each commit, and after a trim it is larger than all the rest of it; a start
//     finds the free pages itself, which takes 0.3 s with a million snapshots.
//   - FreelistType: the list in memory as a map. The other kind merges two sorted
//     lists in each commit, which costs more the more is free.
//   - NoStatistics: nobody reads them.
//   - InitialMmapSize: see minMap. It maps addresses and no memory.
//   - PageSize stays that of the system. Larger ones write fewer pages in a
//     commit and more bytes: 8 KiB nearly doubles them.
func boltOptions(size int64) *bolt.Options {
	return &bolt.Options{
		Timeout:         lockTimeout,
		NoFreelistSync:  true,
		FreelistType:    bolt.FreelistMapType,
		NoStatistics:    true,
		InitialMmapSize: max(minMap, int(2*size)),
	}
}

// openFile opens an existing journal, after it has been read and checked as far
// as bbolt would trust it. failed says that a commit failed in this process.
func openFile(path string, acceptOlderHead, failed bool) (db *bolt.DB, ix index, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, index{}, fmt.Errorf("open journal: %w", err)
	}
	defer f.Close()
	pages, err := openPages(f)
	if err != nil {
		return nil, index{}, err
	}
	if ix, err = readIndex(pages, acceptOlderHead); err != nil {
		return nil, index{}, err
	}
	if err := rewriteHeads(f, pages, failed); err != nil {
		return nil, index{}, fmt.Errorf("sync journal heads: %w", err)
	}
	err = guard(func() error {
		db, err = bolt.Open(path, 0o600, boltOptions(pages.size))
		return err
	})
	if err != nil {
		return nil, index{}, fmt.Errorf("open journal: %w", err)
	}
	db.AllocSize = growth
	return db, ix, nil
}

// rewriteHeads writes the two meta pages as they are and syncs them. If the
// sync of a head failed before, the kernel shows the head that never reached
// the disk and believes it clean; the next commit would then overwrite pages
// which the head on disk still needs.
//
// After a failure it also asks the disk for the space of some appends, behind
// the last page in use: a full disk often takes one more small commit, and the
// store would go from failure to failure.
func rewriteHeads(f *os.File, pages *pageFile, failed bool) error {
	heads := make([]byte, 2*pages.pageSize)
	if _, err := f.ReadAt(heads, 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(heads, 0); err != nil {
		return err
	}
	if failed {
		if _, err := f.WriteAt(make([]byte, spareSpace), int64(pages.limit)*int64(pages.pageSize)); err != nil {
			return err
		}
	}
	return f.Sync()
}

// guard runs fn, which reads mapped pages, and turns what a damaged page can
// do to bbolt into an error: a panic of its assertions, or a fault because an
// offset points outside of the file.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &DamageError{Reason: fmt.Sprintf("bbolt: %v", r)}
		}
	}()
	return fn()
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
