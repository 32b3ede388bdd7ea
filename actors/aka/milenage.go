package aka

import (
	"crypto/aes"
	"crypto/cipher"
)

// The sizes of 3GPP TS 33.102 §6.3.7, and those of RES and MAC in Milenage.
type (
	// Rand is the random challenge.
	Rand [16]byte
	// Autn is SQN xor AK, AMF and MAC-A, by which the network proves itself.
	Autn [16]byte
	// Auts is SQN_MS xor AK* and MAC-S, by which a USIM asks the network to
	// resynchronise.
	Auts [14]byte
	// SQN is a sequence number: 43 bits of SEQ, then 5 bits of IND.
	SQN [6]byte
	// AMF is the authentication management field.
	AMF [2]byte
	// MAC is MAC-A or MAC-S.
	MAC [8]byte
	// AnonymityKey is AK or AK*.
	AnonymityKey [6]byte
)

// F1 is f1 and f1* (3GPP TS 35.206 §4.1): the MAC of the network and that of
// the USIM's request to resynchronise.
func (k Keys) F1(r Rand, sqn SQN, amf AMF) (macA, macS MAC) {
	block, opc := newCipher([]byte(k.k.Reveal())), k.opc.Reveal()
	var in [16]byte
	copy(in[:], sqn[:])
	copy(in[6:], amf[:])
	copy(in[8:], in[:8])
	xor(in[:], opc)
	in = rotate(in, 8) // r1 = 64 bits; c1 is zero
	temp := mask(block, r, opc)
	xor(in[:], temp[:])
	block.Encrypt(in[:], in[:])
	xor(in[:], opc)
	return MAC(in[:8]), MAC(in[8:])
}

// F2345 is f2 to f5: what both sides share once RAND is known, and the key that
// hides SQN in AUTN.
func (k Keys) F2345(r Rand) (Vector, AnonymityKey) {
	block, opc := newCipher([]byte(k.k.Reveal())), k.opc.Reveal()
	temp := mask(block, r, opc)
	out2 := derive(block, temp, opc, 0, 1)
	out3 := derive(block, temp, opc, 4, 2)
	out4 := derive(block, temp, opc, 8, 4)
	return newVector(out2[8:], out3[:], out4[:]), AnonymityKey(out2[:6])
}

// F5Star is f5*, the key that hides SQN_MS in AUTS.
func (k Keys) F5Star(r Rand) AnonymityKey {
	block, opc := newCipher([]byte(k.k.Reveal())), k.opc.Reveal()
	out5 := derive(block, mask(block, r, opc), opc, 12, 8)
	return AnonymityKey(out5[:6])
}

// Autn is what the network sends with RAND for a sequence number.
func (k Keys) Autn(r Rand, sqn SQN, amf AMF) Autn {
	macA, _ := k.F1(r, sqn, amf)
	_, ak := k.F2345(r)
	var autn Autn
	copy(autn[:], sqn[:])
	xor(autn[:6], ak[:])
	copy(autn[6:], amf[:])
	copy(autn[8:], macA[:])
	return autn
}

// Auts is what the USIM sends when SQN is out of range (3GPP TS 33.102 §6.3.3):
// its AMF is all zeros.
func (k Keys) Auts(r Rand, ms SQN) Auts {
	_, macS := k.F1(r, ms, AMF{})
	star := k.F5Star(r)
	var auts Auts
	copy(auts[:], ms[:])
	xor(auts[:6], star[:])
	copy(auts[6:], macS[:])
	return auts
}

// mask is TEMP, E(RAND xor OPc).
func mask(block cipher.Block, r Rand, opc string) [16]byte {
	temp := [16]byte(r)
	xor(temp[:], opc)
	block.Encrypt(temp[:], temp[:])
	return temp
}

// derive is OUT2 to OUT5: the rotation is given in bytes, the constant is all
// zeros but for its last byte.
func derive(block cipher.Block, temp [16]byte, opc string, rotation int, constant byte) [16]byte {
	xor(temp[:], opc)
	out := rotate(temp, rotation)
	out[15] ^= constant
	block.Encrypt(out[:], out[:])
	xor(out[:], opc)
	return out
}

// rotate turns a block left by whole bytes.
func rotate(in [16]byte, by int) (out [16]byte) {
	for i := range out {
		out[i] = in[(i+by)%16]
	}
	return out
}

func xor[T []byte | string](dst []byte, with T) {
	for i := range min(len(dst), len(with)) {
		dst[i] ^= with[i]
	}
}

// newCipher panics on a key of another size, as with the zero Keys: the caller
// has not looked whether there are any.
func newCipher(k []byte) cipher.Block {
	block, err := aes.NewCipher(k)
	if err != nil || len(k) != keySize {
		panic("aka: no keys")
	}
	return block
}
