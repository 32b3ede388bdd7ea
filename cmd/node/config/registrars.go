package config

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// algorithms are those of challenges that a registrar may use. The DigestActor
// computes the first three, the xSP aka the others.
var algorithms = []string{
	"SHA-512-256", "SHA-256", "MD5",
	"AKAv2-SHA-256", "AKAv2-MD5", "AKAv1-SHA-256", "AKAv1-MD5",
}

func (l *loader) readRegistrars(v value) {
	v.named(func(name string, key, entry value) {
		r := actors.Registrar{Name: name}
		pace := func(v value) {
			v.mapping(keys{
				"rate":        func(v value) { readRate(v, &r.Rate) },
				"concurrency": func(v value) { v.limit(&r.Concurrency) },
				"count":       func(v value) { readCount(v, &r.CountRegistrations) },
			})
		}
		retry := func(v value) {
			v.mapping(keys{
				"base": func(v value) { v.duration(&r.RetryBase) },
				"max":  func(v value) { v.duration(&r.RetryMax) },
			})
			if r.RetryBase > 0 && r.RetryMax > 0 && r.RetryBase > r.RetryMax {
				v.problem("base is longer than max", "")
			}
		}
		entry.mapping(keys{
			"uri":            func(v value) { readTarget(v, &r.URI, false) },
			"outbound_proxy": func(v value) { readTarget(v, &r.OutboundProxy, true) },
			"realms":         func(v value) { readRealms(v, &r.Realms) },
			"expires": func(v value) {
				v.parsed("an expiry", func(text string) (err error) {
					r.Expires, err = declare.Expiry(text)
					return err
				}, "write seconds or a duration such as 1h")
			},
			"pace":                     pace,
			"algorithms":               func(v value) { readAlgorithms(v, &r.Algorithms) },
			"tolerate_missing_contact": func(v value) { v.boolean(&r.Tolerate) },
			"require_mutual_auth":      func(v value) { v.boolean(&r.RequireProof) },
			"require_qop":              func(v value) { v.boolean(&r.RequireQOP) },
			"allow_downgrade":          func(v value) { v.boolean(&r.AllowDowngrade) },
			"retry":                    retry,
			"registration_handler":     func(v value) { v.handlers(&r.RegistrationHandler) },
			"session_handler":          func(v value) { v.handlers(&r.SessionHandler) },
			"sessions":                 func(v value) { readSessions(v, &r.Sessions) },
		})
		entry.require(key, "uri", `write uri: "sip:registrar.example.test"`)
		l.registrars[name] = true
		l.config.Registrars = append(l.config.Registrars, r)
	})
	if v.null() || v.target().Kind == yaml.MappingNode && len(v.target().Content) == 0 {
		v.problem("names no registrar", "add one: acme: {uri: \"sip:registrar.example.test\"}")
	}
	slices.SortFunc(l.config.Registrars, func(a, b actors.Registrar) int { return cmp.Compare(a.Name, b.Name) })
}

// readTarget reads the URI of a registrar or proxy: a SIP URI without a user
// part (REG-01), reached by UDP or TCP.
func readTarget(v value, into *string, optional bool) {
	text, ok := v.text()
	if !ok || text == "" && optional {
		return
	}
	u, err := declare.ParseURI(text)
	transport := u.Transport()
	switch {
	case err != nil:
		v.problem(declare.Show(text)+" "+err.Error(), "write sip:host or sip:host:port;transport=tcp")
	case u.Scheme == "sips":
		v.problem(declare.Show(text)+" needs TLS, which this release does not offer", "write sip: and transport=udp or transport=tcp")
	case u.User != "":
		v.problem(declare.Show(text)+" has a user part", "name only the host; the user is the profile's")
	case u.Headers:
		v.problem(declare.Show(text)+" has a header part", "remove the ? and what follows")
	case transport == "tls" || transport == "ws" || transport == "wss":
		v.problem(declare.Show(text)+" uses "+transport+", which this release does not offer", "write transport=udp or transport=tcp")
	case transport != "" && transport != "udp" && transport != "tcp":
		v.problem(declare.Show(text)+" has an unknown transport", "write transport=udp or transport=tcp")
	default:
		*into = text
	}
}

func readRealms(v value, into *[]string) {
	v.list(func(v value) {
		text, ok := v.filled()
		switch {
		case !ok:
		case len(text) > 255:
			v.problem("is longer than 255 bytes", "")
		case slices.Contains(*into, text):
			v.problem(declare.Show(text)+" stands there twice", "remove one")
		default:
			*into = append(*into, text)
		}
	})
}

func readAlgorithms(v value, into *[]string) {
	v.list(func(v value) {
		text, ok := v.filled()
		if !ok {
			return
		}
		i := slices.IndexFunc(algorithms, func(a string) bool { return strings.EqualFold(a, text) })
		switch {
		case i < 0:
			v.problem(declare.Show(text)+" is not an algorithm", "known are "+strings.Join(algorithms, ", "))
		case slices.Contains(*into, algorithms[i]):
			v.problem(declare.Show(text)+" stands there twice", "remove one")
		default:
			*into = append(*into, algorithms[i])
		}
	})
	if v.target().Kind == yaml.SequenceNode && len(v.target().Content) == 0 {
		v.problem("names no algorithm, so nothing would be answered", "remove the key for its default")
	}
}

// leastInterval is the shortest session interval (RFC 4028 §4).
const leastInterval = 90 * time.Second

// readRate reads requests per second, or "unlimited" as -1.
func readRate(v value, into *float64) {
	if v.target().Value == unlimited {
		*into = -1
		return
	}
	rate, ok := v.number()
	if !ok {
		return
	}
	if !(rate > 0) || math.IsInf(rate, 0) {
		v.problem("must be above 0 requests per second", "or the word unlimited")
		return
	}
	*into = rate
}

// readSessions reads the bounds of a registrar's sessions.
func readSessions(v value, into *actors.SessionLimits) {
	v.mapping(keys{
		"total":       func(v value) { v.limit(&into.Total) },
		"per_profile": func(v value) { v.limit(&into.PerProfile) },
		"expires": func(v value) {
			if v.target().Value == unlimited {
				into.Expires = -1
				return
			}
			v.duration(&into.Expires)
			if into.Expires > 0 && into.Expires < leastInterval {
				v.problem("is shorter than 90 s, which RFC 4028 §4 forbids", "write 90s or more, or the word unlimited for sessions without a timer")
			}
		},
		"ring": func(v value) { v.duration(&into.Ring) },
	})
	if into.Total > 0 && into.PerProfile > into.Total {
		v.problem("per_profile is larger than total", "")
	}
}

// readCount reads what a token of the pace is for.
func readCount(v value, registrations *bool) {
	text, ok := v.filled()
	if !ok {
		return
	}
	switch text {
	case "requests", "registrations":
		*registrations = text == "registrations"
	default:
		v.problem("is not what a pace counts", "write requests, or registrations to let answers to challenges go free")
	}
}
