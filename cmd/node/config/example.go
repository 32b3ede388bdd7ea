package config

import _ "embed"

// Example is an annotated configuration with every key, and the text that
// "muster check --example" prints. A test loads it.
//
//go:embed example.yaml
var Example string
