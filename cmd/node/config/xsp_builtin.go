package config

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/actors/bearer"
	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/actors/usim"
)

func (x *xspEntry) readAKA(v value) {
	a := &AKA{}
	x.AKA = a
	v.mapping(keys{"subscribers": func(v value) {
		f, ok := v.open("holds the keys of subscribers")
		if !ok {
			return
		}
		a.File = f.Name()
		_ = f.Close() // it was not written to
		var err error
		if a.Subscribers, err = usim.ReadSubscribers(a.File); err != nil {
			v.faultsOf(a.File, err)
		}
	}})
	v.require(v, "subscribers", "name a CSV file: profile,impi,k,op,opc,versions")
}

func (x *xspEntry) readBearer(v value) {
	o := &bearer.Options{}
	x.Bearer = o
	section, ok := v.remember(keys{
		"grant":              func(v value) { v.word(&o.Grant) },
		"token_url":          func(v value) { v.word(&o.TokenURL) },
		"trusted_servers":    func(v value) { v.words(&o.TrustedServers) },
		"client_id":          func(v value) { v.word(&o.ClientID) },
		"client_secret_file": func(v value) { o.ClientSecret = v.secret() },
		"refresh_tokens": func(v value) {
			f, ok := v.open("holds refresh tokens")
			if !ok {
				return
			}
			path := f.Name()
			_ = f.Close() // it was not written to
			var err error
			if o.RefreshTokens, err = bearer.ReadRefreshTokens(path); err != nil {
				v.faultsOf(path, err)
			}
		},
		"scopes":          func(v value) { v.words(&o.Scopes) },
		"tls_ca":          func(v value) { o.RootCAs = v.authorities() },
		"allow_cleartext": func(v value) { v.boolean(&o.AllowCleartext) },
	})
	if !ok {
		return
	}
	tokens, there := section.given["refresh_tokens"]
	switch {
	case !there && o.Grant == bearer.RefreshToken:
		v.lacks("refresh_tokens", "name a CSV file: profile,refresh_token")
	case tokens != nil && o.Grant == bearer.ClientCredentials:
		tokens.problem("does not go with the grant client_credentials", "remove it, or write grant: refresh_token")
	}
	// Making one contacts nobody, and the package knows its rules.
	p, err := bearer.New(*o)
	if err != nil {
		section.faults(err)
		return
	}
	_ = p.Close() // it has done nothing
}

func (x *xspEntry) readHMAC(v value) {
	o := &signature.Options{}
	x.HMAC = o
	section, ok := v.remember(keys{
		"key_file": func(v value) { o.Key = v.secret() },
		"key_id":   func(v value) { v.word(&o.KeyID) },
		"scheme":   func(v value) { v.word(&o.Scheme) },
		"header": func(v value) {
			v.word(&o.Header)
			if o.Header == "" {
				return
			}
			if err := mutation.Listable(o.Header); err != nil {
				v.problem(err.Error(), "")
			}
		},
	})
	if !ok {
		return
	}
	if _, err := signature.New(*o); err != nil {
		section.faults(err)
	}
	// Who names the header here need not list it a second time.
	if o.Header != "" && !slices.ContainsFunc(x.Headers, func(h string) bool { return strings.EqualFold(h, o.Header) }) {
		x.Headers = append(x.Headers, o.Header)
	}
}

// section is a section that was read, for those who check it as a whole.
type section struct {
	value
	table keys
	// given are the values that are there, nil for those that had a problem.
	given map[string]*value
}

// remember reads a section. It is false for what is none.
func (v value) remember(table keys) (*section, bool) {
	s := &section{v, table, map[string]*value{}}
	for name, read := range table {
		table[name] = func(v value) {
			before := v.load.problems.count()
			read(v)
			s.given[name] = &v
			if v.load.problems.count() > before {
				s.given[name] = nil
			}
		}
	}
	v.mapping(table)
	return s, v.null() || v.target().Kind == yaml.MappingNode
}

// faults takes the error of a constructor apart: each "setting: what" is a
// problem of the key of that name, or of the one that names its file. A key
// that has a problem already is left alone.
func (s *section) faults(err error) {
	for _, fault := range split(err) {
		setting, what, found := strings.Cut(fault.Error(), ": ")
		if !found {
			s.problem(fault.Error(), "")
			continue
		}
		if _, known := s.table[setting]; !known {
			setting += "_file"
		}
		switch at, there := s.given[setting]; {
		case !there:
			value{s.load, s.node, s.path + "." + setting}.problem(what, "")
		case at != nil:
			at.problem(what, "")
		}
	}
}

// split takes joined errors apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// word reads a text that is not empty.
func (v value) word(into *string) {
	if text, ok := v.filled(); ok {
		*into = text
	}
}

// words reads a list of texts.
func (v value) words(into *[]string) {
	v.list(func(v value) {
		if text, ok := v.filled(); ok {
			*into = append(*into, text)
		}
	})
}

// faultsOf takes the error of a file's reader apart: each "FILE:LINE: WHAT" is
// a problem of that file, anything else one of the key that names it.
func (v value) faultsOf(path string, err error) {
	for _, fault := range split(err) {
		text := fault.Error()
		rest, inFile := strings.CutPrefix(text, path+":")
		number, what, found := strings.Cut(rest, ": ")
		line, notNumber := strconv.Atoi(number)
		if !inFile || !found || notNumber != nil {
			v.problem(text, "")
			continue
		}
		v.load.inFiles = append(v.load.inFiles, Problem{File: path, Line: line, What: what})
	}
}
