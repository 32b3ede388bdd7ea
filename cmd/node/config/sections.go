package config

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin"
	"github.com/sipmuster/muster/admin/declare"
)

// readRoot reads the whole file.
func (l *loader) readRoot(root value) {
	c := l.config
	root.mapping(keys{
		"node":       l.readNode,
		"admin":      l.readAdmin,
		"sip":        l.readSIP,
		"remote":     l.readRemote,
		"registrars": l.readRegistrars,
		"xsp":        l.readXSPs,
		"trunks":     l.readTrunks,
		"profiles":   l.readProfiles,
		"log":        l.readLog,
		"shutdown":   func(v value) { v.mapping(keys{"deregister": func(v value) { v.boolean(&c.Shutdown.Deregister) }}) },
	})
	root.require(root, "registrars", "add one: registrars: {acme: {uri: \"sip:registrar.example.test\"}}")
	l.checkRemote()
	l.checkHandlers()
	if len(c.SIP.Listen) == 0 {
		c.SIP.Listen = []string{"udp://127.0.0.1:5070", "tcp://127.0.0.1:5070"}
		if l.reachesBeyondLoopback() {
			l.warn("%s: sip.listen is absent, so SIP uses 127.0.0.1, from where registrars on other machines cannot be reached (set it to an address of this machine)", l.file)
		}
	}
	l.checkTrunks()
}

func (l *loader) readNode(v value) {
	n := &l.config.Node
	v.mapping(keys{
		"id": func(v value) {
			if text, ok := v.text(); ok {
				if err := declare.CheckName(text); err != nil {
					v.problem(declare.Show(text)+" "+err.Error(), "")
				}
				n.ID = text
			}
		},
		"data_dir": func(v value) { v.file(&n.DataDir) },
		"key_file": func(v value) { v.file(&n.KeyFile) },
		"retention": func(v value) {
			v.mapping(keys{
				"events": func(v value) { v.limit(&n.Retention.Events) },
				"age": func(v value) {
					if v.target().Value == unlimited {
						n.Retention.Age = -1
						return
					}
					v.duration(&n.Retention.Age)
				},
				"bytes": func(v value) {
					v.parsed("a size", func(text string) (err error) {
						n.Retention.Bytes, err = parseSize(text)
						return err
					}, "write a number of bytes, a size such as 20GiB, or the word unlimited")
				},
			})
		},
	})
	if within(n.KeyFile, n.DataDir) {
		// Whoever copies the data folder would get the key along with it (S-61).
		value{l, v.node, v.path + ".key_file"}.problem(
			declare.Show(n.KeyFile)+" lies inside data_dir, so that every copy of the data holds the key of its secrets too", "name a file in another folder")
	}
}

// within tells whether a path lies inside a folder.
func within(path, folder string) bool {
	path, errPath := filepath.Abs(path)
	folder, errFolder := filepath.Abs(folder)
	relative, err := filepath.Rel(folder, path)
	return errors.Join(err, errPath, errFolder) == nil && relative != ".." && !strings.HasPrefix(relative, "../")
}

func (l *loader) readAdmin(v value) {
	a := &l.config.Admin
	listen, cert, tokens := v, v, v
	v.mapping(keys{
		"listen": func(v value) {
			listen = v
			if text, ok := v.filled(); ok {
				if err := checkListen(text); err != nil {
					v.problem(declare.Show(text)+" "+err.Error(), "write address:port, such as 127.0.0.1:8080")
				}
				a.Listen = text
			}
		},
		"tls_cert": func(v value) {
			cert = v
			v.file(&a.TLSCert)
		},
		"tls_key": func(v value) { v.file(&a.TLSKey) },
		"token_file": func(v value) {
			tokens = v
			v.file(&a.TokenFile)
		},
	})
	switch {
	case (a.TLSCert == "") != (a.TLSKey == ""):
		cert.problem("tls_cert and tls_key go together", "give both or neither")
	case a.TLSCert != "":
		if _, err := tls.LoadX509KeyPair(a.TLSCert, a.TLSKey); err != nil {
			cert.problem("tls_cert and tls_key cannot be used: "+err.Error(), "")
		}
	}
	if a.TokenFile != "" {
		if _, err := admin.ReadTokens(a.TokenFile); err != nil {
			tokens.problem(err.Error(), "")
		}
	}
	// S-70: nobody else's machine may call without TLS and a token.
	if !admin.IsLoopback(a.Listen) && (a.TLSCert == "" || a.TokenFile == "") {
		listen.problem(declare.Show(a.Listen)+" can be reached from other machines", "set tls_cert, tls_key and token_file, or listen on 127.0.0.1")
	}
}

// checkListen checks host:port. The host may be empty (all addresses).
func checkListen(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("is not an address and a port")
	}
	return checkPort(port)
}

func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return errors.New("has a port that is not a number from 0 to 65535")
	}
	return nil
}

func (l *loader) readSIP(v value) {
	s := &l.config.SIP
	v.mapping(keys{
		"listen": func(v value) {
			v.list(func(v value) {
				text, ok := v.filled()
				if !ok {
					return
				}
				listener, err := parseListener(text)
				if err != nil {
					v.problem(declare.Show(text)+" "+err.Error(), "write udp://address:port or tcp://address:port")
					return
				}
				if slices.Contains(s.Listen, listener) {
					v.problem(declare.Show(text)+" stands there twice", "remove one")
				}
				s.Listen = append(s.Listen, listener)
			})
			if v.target().Kind == yaml.SequenceNode && len(v.target().Content) == 0 {
				v.problem("names no address", "remove the key for its default, or add one such as udp://192.0.2.1:5060")
			}
		},
		"advertise": func(v value) {
			if text, ok := v.filled(); ok {
				if err := checkAdvertise(text); err != nil {
					v.problem(declare.Show(text)+" "+err.Error(), "write the host or host:port that registrars can answer to")
				}
				s.Advertise = text
			}
		},
		"user_agent": func(v value) {
			if text, ok := v.filled(); ok {
				if len(text) > 255 {
					v.problem("is longer than 255 bytes", "")
				}
				s.UserAgent = text
			}
		},
		"accept_responses_from": func(v value) {
			v.list(func(v value) {
				if text, ok := v.filled(); ok {
					addr, err := netip.ParseAddr(text)
					if err != nil {
						v.problem(declare.Show(text)+" is not an IP address", "")
						return
					}
					s.AcceptFrom = append(s.AcceptFrom, addr.Unmap())
				}
			})
		},
	})
}

// parseListener normalises "udp://127.0.0.1:5070".
func parseListener(text string) (string, error) {
	scheme, address, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case !ok:
		return "", errors.New("has no transport")
	case scheme == "tls" || scheme == "ws" || scheme == "wss":
		return "", errors.New("uses " + scheme + ", which this release does not offer")
	case scheme != "udp" && scheme != "tcp":
		return "", errors.New("has an unknown transport")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", errors.New("is not an address and a port")
	}
	if err := checkPort(port); err != nil {
		return "", err
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", errors.New("has a host that is not an IP address of this machine")
	}
	return scheme + "://" + net.JoinHostPort(addr.Unmap().String(), port), nil
}

// checkAdvertise accepts host, host:port and a bare IPv6 address.
func checkAdvertise(text string) error {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Is6() {
		text = "[" + text + "]"
	}
	u, err := declare.ParseURI("sip:" + text)
	if err != nil {
		return err
	}
	if u.User != "" || len(u.Params) > 0 || u.Headers {
		return errors.New("is more than a host and a port")
	}
	return nil
}

func (l *loader) readLog(v value) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	v.mapping(keys{
		"level": func(v value) {
			if text, ok := v.text(); ok {
				level, known := levels[text]
				if !known {
					v.problem(declare.Show(text)+" is not a level", "write debug, info, warn or error")
				}
				l.config.Log.Level = level
			}
		},
		"format": func(v value) {
			if text, ok := v.text(); ok {
				if text != "text" && text != "json" {
					v.problem(declare.Show(text)+" is not a format", "write text or json")
				}
				l.config.Log.JSON = text == "json"
			}
		},
	})
}

func (l *loader) readProfiles(v value) {
	v.mapping(keys{
		"files": func(v value) {
			v.list(func(v value) {
				var path string
				if v.file(&path); path == "" {
					return
				}
				if slices.Contains(l.profileFiles, path) {
					v.problem(declare.Show(path)+" stands there twice", "remove one")
					return
				}
				if info, err := os.Stat(path); err != nil {
					v.problem(openError(path, err).Error(), "relative paths are relative to the folder of this file")
					return
				} else if !info.Mode().IsRegular() {
					v.problem(path+": is not a plain file", "name the files of a folder one by one")
					return
				}
				l.profileFiles = append(l.profileFiles, path)
			})
		},
	})
}

// reachesBeyondLoopback tells whether a registrar is on another machine.
func (l *loader) reachesBeyondLoopback() bool {
	return slices.ContainsFunc(l.config.Registrars, func(r actors.Registrar) bool {
		target := r.URI
		if r.OutboundProxy != "" {
			target = r.OutboundProxy
		}
		u, err := declare.ParseURI(target)
		return err == nil && !admin.IsLoopback(u.Host)
	})
}

// parseSize reads bytes with a unit of thousands or of 1,024.
func parseSize(text string) (int64, error) {
	if text == unlimited {
		return -1, nil
	}
	number, unit := text, int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}} {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return 0, errors.New("is not a size above 0")
	}
	return n * unit, nil
}
