// Package store keeps the journal: what every profile and every session decided
// and learned, in one file that survives the process.
//
// It owns the file journal.db in the data folder, a bbolt database with four
// buckets:
//
//	journal    global sequence (8 bytes, big endian) -> CRC32C + envelope; or
//	           such a sequence and a number (4 bytes) -> as many records as
//	           that, each after its length
//	snapshots  shard (2 bytes, big endian) + stream  -> CRC32C + version,
//	           last sequence, state
//	meta       format, shard count, and one record of counters: checkpoint,
//	           epoch, bounds of the journal, sum of the snapshots
//	secrets    id -> nonce + AES-256-GCM of the secret
//
// The name of a stream begins with its kind: "p/" for a profile, whose events
// come by Append, and "s/" for a session, whose events come by AppendSession.
// That is all that the store makes of the difference.
//
// The journal is append-only, so a commit writes a handful of pages however
// many streams it touches. Each envelope carries the sequence of its stream's
// event before it; that back pointer gives the history of a stream without an
// index. The checkpointer folds the journal into snapshots, in key order, and
// retention then cuts the journal from its old end, never past the checkpoint.
//
// # What it promises
//
//   - Append returns nil, and AppendThen calls back with nil, only when the
//     events are synced. One goroutine drains its queue, commits once and answers
//     each caller; a version conflict fails its own request only. Secrets are
//     written in the same commits.
//   - An append to an idle store is committed at once. Under load commits begin
//     Options.CommitInterval apart, because each costs two syncs and some pages
//     whatever is in it; a full batch, jobs, Reopen and Close do not wait.
//   - A commit that returned an error may still be on disk: bbolt keeps a
//     commit whose last sync failed. So such an error wraps ErrFailed, and
//     every append after it fails until Reopen has read back what is there.
//   - What is read was written: every record is checked against a CRC32C of
//     its bucket, key and value, the pages against the rules of a B+tree before
//     bbolt may touch them, the journal for gaps, the snapshots against a
//     running sum. Damage is a *DamageError, never a wrong state or a panic.
//   - A read transaction never lives longer than a page of records (Backup
//     excepted), so readers do not make the file grow.
//   - A reader of a release understands the files of every earlier one and
//     refuses those of a later format, naming both.
//
// # What it refuses
//
//   - A second process on the same folder: journal.owner is locked.
//   - An epoch older than the one recorded in the file.
//   - Secrets in the journal. It does not look into events; the vocabulary in
//     package messages has no field for one. Secrets have their own bucket,
//     sealed with a key that lives outside the data folder.
//   - To skip an event that it cannot fold: that stream's snapshot stays where
//     it is, the journal is kept from there on, and Checkpoint says so.
//
// It imports no actor and knows no profile and no session: what a state is and
// how events fold into it is Options.Fold. Who has the states in memory anyway
// can give them with Options.Live, which makes a checkpoint cheap.
//
// # What it costs in memory
//
// A head for each stream (heads.go): 32 bytes, 8 to 11 more to find it, and the
// name, which Replay lets others share. A bit for each stream with events since
// the last checkpoint. Nothing else grows with the number of streams but what
// bbolt knows of pages.
//
// # Reading order
//
// keys.go, header.go and block.go (the bytes), append.go, payload.go, slab.go,
// queue.go and writer.go (append), heads.go and index.go (what is in memory),
// read.go and replay.go (reads), checkpoint.go, fold.go and trim.go (snapshots and
// retention), pages.go and verify.go (distrust). Memory is the same journal without
// a file, for tests; both pass the suite in storetest.
package store
