package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/sipmuster/muster/interop"
)

// muster runs bench/register and reads what it printed.
func muster(program string, k *interop.Kamailio, users int, rate float64, refresh bool) (result, error) {
	args := []string{"-registrar", k.URI("udp"), "-profiles", fmt.Sprint(users), "-pace", fmt.Sprint(rate), "-expires", "1h", "-refresh-rounds", "0"}
	line := "challenged registration"
	if refresh {
		// Short grants are refreshed at 40 to 50 % of them.
		const mean = 0.45
		interval := time.Duration(float64(users) / rate * float64(time.Second))
		args[7] = time.Duration(float64(interval) / mean).Round(time.Second).String()
		args[9], line = "2", "refresh that fell due"
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("%w: %s", err, tail(out))
	}
	_, text, found := bytes.Cut(out, []byte(line))
	if !found {
		return result{}, errors.New("bench/register printed something else")
	}
	var each, registers, perSecond float64
	if _, err := fmt.Sscanf(string(text), "%f CPU-ms", &each); err != nil {
		return result{}, fmt.Errorf("read what bench/register printed: %w", err)
	}
	if _, rest, found := bytes.Cut(text, []byte("journal files")); found {
		_, rest, _ = bytes.Cut(rest, []byte("written"))
		_, _ = fmt.Sscanf(string(rest), "%f /s", &perSecond)
	}
	if _, rest, found := bytes.Cut(text, []byte("\n")); found {
		_, _ = fmt.Sscanf(string(rest), "%f REGISTERs each", &registers)
	}
	const scale = 1_000_000 // of them, to keep the digits
	return result{
		cpu: time.Duration(each * scale * float64(time.Millisecond)), wall: time.Duration(scale / perSecond * float64(time.Second)),
		registers: int(registers * scale), accepted: scale,
	}, nil
}
