package bearer

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sipmuster/muster/messages"
)

// ReadRefreshTokens reads a CSV file with the header line
// "profile,refresh_token". All faults are reported at once, each with file and
// line, and none quotes the file: a cell in the wrong column may be a token.
func ReadRefreshTokens(path string) (map[string]messages.Secret, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read refresh tokens: %w", err)
	}
	tokens := make(map[string]messages.Secret)
	lines := make(map[string]int)
	var faults []error
	header := false
	text := strings.TrimPrefix(string(content), "\ufeff")
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		line = strings.TrimRight(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s:%d: %w", path, number, fmt.Errorf(format, args...)))
		}
		profile, token, err := splitLine(line)
		switch {
		case !header && (err != nil || profile != "profile" || token != "refresh_token"):
			// Without it, the columns may mean anything.
			fault("the first line is not the header profile,refresh_token")
			return nil, errors.Join(faults...)
		case !header:
			header = true
		case err != nil:
			fault("%w", err)
		case profile == "":
			fault("has no profile")
		case token == "":
			fault("has no refresh token")
		case strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }):
			fault("the refresh token has characters that it cannot have (RFC 6749 appendix A.17)")
		case lines[profile] > 0:
			fault("the profile stands in line %d already", lines[profile])
		default:
			tokens[profile], lines[profile] = messages.NewSecret(token), number
		}
	}
	if !header {
		return nil, fmt.Errorf("%s:1: the file is empty, it begins with the header profile,refresh_token", path)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return tokens, nil
}

// splitLine reads one line by itself, so that a forgotten quote costs that line
// and not the rest of the file. A field cannot hold a line break.
func splitLine(line string) (profile, token string, err error) {
	r := csv.NewReader(strings.NewReader(line))
	r.FieldsPerRecord = -1
	cells, err := r.Read()
	if err != nil {
		return "", "", errors.New("has a quote that does not belong there")
	}
	if len(cells) != 2 {
		return "", "", fmt.Errorf("has %d fields, the header names 2", len(cells))
	}
	return strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), nil
}
