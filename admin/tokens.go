package admin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sipmuster/muster/admin/declare"
)

// Role is what a caller may do. A higher role includes the lower ones (S-72).
type Role int

// The roles, lowest first.
const (
	// RoleRead may look at profiles, sessions, registrars, metrics and history,
	// and watch them.
	RoleRead Role = iota + 1
	// RoleOperate may also enable, disable and refresh profiles, ask the
	// registrar for bindings, place, change and end calls, and reload the
	// configuration.
	RoleOperate
	// RoleAdmin may also add, change and remove profiles and take backups.
	RoleAdmin
)

// String is the spelling of the token file.
func (r Role) String() string {
	switch r {
	case RoleRead:
		return "read"
	case RoleOperate:
		return "operate"
	case RoleAdmin:
		return "admin"
	}
	return "none"
}

// maxTokens and maxTokenFile bound a token file: each request compares with
// every token.
const (
	maxTokens    = 1000
	maxTokenFile = 1 << 20
)

// Token is one caller of a token file. The token itself is not known here.
type Token struct {
	// Name stands in log lines.
	Name string
	Role Role
	// Sum is the SHA-256 of the token.
	Sum [sha256.Size]byte
}

// Tokens are the callers that may use the API.
type Tokens []Token

// ReadTokens reads a token file: a line "name role sha256hex" for each caller;
// blank lines and lines that begin with # do not count. All faults are
// reported at once. A file that others may write to is refused.
func ReadTokens(path string) (Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			err = at.Err
		}
		return nil, fmt.Errorf("read token file %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read token file %s: %w", path, err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("token file %s can be written by other users (chmod 600 %s)", path, path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, fmt.Errorf("read token file %s: %w", path, err)
	}
	if len(content) > maxTokenFile {
		return nil, fmt.Errorf("token file %s is larger than 1 MiB", path)
	}
	return parseTokens(path, content)
}

// parseTokens reads the lines. It never repeats a third field: it may be the
// token itself, pasted by mistake.
func parseTokens(path string, content []byte) (Tokens, error) {
	var tokens Tokens
	var faults []error
	names := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		token, err := parseToken(line)
		switch {
		case err == nil && names[token.Name]:
			err = fmt.Errorf("the name %s stands there twice", declare.Show(token.Name))
		case err == nil && len(tokens) == maxTokens:
			err = fmt.Errorf("there are more than %d tokens", maxTokens)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", path, n, err))
			continue
		}
		names[token.Name] = true
		tokens = append(tokens, token)
	}
	if err := lines.Err(); err != nil {
		faults = append(faults, fmt.Errorf("%s: %w", path, err))
	}
	if len(faults) == 0 && len(tokens) == 0 {
		faults = append(faults, fmt.Errorf("token file %s names nobody (write a line: name role sha256-of-the-token-in-hex)", path))
	}
	return tokens, errors.Join(faults...)
}

func parseToken(line string) (Token, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return Token{}, fmt.Errorf("has %d words (write: name role sha256-of-the-token-in-hex)", len(fields))
	}
	t := Token{Name: fields[0]}
	if declare.CheckName(t.Name) != nil {
		return Token{}, errors.New("the first word is not a name of letters, digits, '.', '_' and '-'")
	}
	switch fields[1] {
	case "read":
		t.Role = RoleRead
	case "operate":
		t.Role = RoleOperate
	case "admin":
		t.Role = RoleAdmin
	default:
		return Token{}, errors.New("the second word is not a role (read, operate or admin)")
	}
	sum, err := hex.DecodeString(fields[2])
	if err != nil || len(sum) != sha256.Size {
		return Token{}, errors.New("the third word is not the 64 hex digits of a SHA-256 (never write the token itself here)")
	}
	copy(t.Sum[:], sum)
	return t, nil
}

// find returns the caller with this token. The time it takes tells nothing
// about the tokens (S-66): digests are compared, all of them, in constant time.
func (ts Tokens) find(token string) (Token, bool) {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range ts {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], ts[i].Sum[:]), i, found)
	}
	if found < 0 {
		return Token{}, false
	}
	return ts[found], true
}
