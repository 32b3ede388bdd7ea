// Package config reads the configuration of a node: one YAML file (design §9)
// and the profile files that it names.
//
// # Promises
//
//   - Strict: an unknown key, a repeated key, a wrong type or a wrong value is
//     an error. Nothing is guessed.
//   - Complete: every error is reported in one go, as
//     "muster.yaml:12: registrars.acme.uri: what is wrong (how to mend it)",
//     sorted by place, at most MaxProblems of them.
//   - Discreet: no message holds a secret. Secrets live in files that the
//     configuration names, and in the columns password and ha1 of profile
//     files; neither is ever repeated. Nor is the path of a URL of an xSP, which
//     may hold a token.
//   - Absent keys have defaults that work, written down in example.yaml, which
//     "muster check --example" prints.
//
// Every relative path in the configuration, data_dir included, is relative to
// the folder of the configuration file, so that it means the same whatever the
// working directory of a service is.
//
// # Where to read
//
// config.go has the result, load.go the order of work, yaml.go the strict walk
// over YAML nodes, sections.go and registrars.go the keys, xsp_read.go those of
// xSPs in other processes and xsp_builtin.go of our own, secrets.go the files
// that they name, handlers.go who may be named as handler, trunks.go trusted
// peers, profiles.go the profile files and what concerns all of them together.
// How one profile is read is in package declare.
package config
