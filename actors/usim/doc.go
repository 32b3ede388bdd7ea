// Package usim is the built-in xSP for IMS: software USIMs that answer Digest
// AKA challenges. Package aka computes; this one keeps the keys, lets one
// question at a time reach a USIM, and makes its sequence numbers durable.
//
// What it promises:
//
//   - The state of a USIM is in the vault before an answer leaves (AKA-08). If
//     the vault cannot say that it is, there is no answer. A crash in between
//     costs one challenge: the same AUTN is then a replay, the network is told,
//     and it challenges anew.
//   - A state that is damaged, or of an unknown version, is never replaced by an
//     empty one: that would accept every old challenge again.
//   - Keys are written nowhere, and no error shows a value of them.
//
// A USIM is its keys: profiles with the same K and OPc share one, with its lock
// and its sequence numbers, as the public identities of one subscription do. A
// subscriber whose keys are replaced has a fresh USIM.
//
// Sequence numbers belong to one owner. The same keys in a phone, or on another
// node with a vault of its own, work, at the price of resynchronisations.
//
// ReadSubscribers reads the file that operators write:
//
//	profile,impi,k,op,opc,versions
//	alice,001010000000001@ims.example,465b5c…,,cd63cb…,2
//
// with profile, k and one of op and opc; impi is the user part of the AOR when
// empty, and versions "2" never answers AKAv1.
package usim
