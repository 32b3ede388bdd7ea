package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/admin/declare"
)

// value is a YAML node and where it stands.
type value struct {
	load *loader
	node *yaml.Node
	// path is "registrars.acme.uri".
	path string
}

// keys is the table of a mapping: what to do with the value of each key.
type keys map[string]func(value)

// problem records what is wrong with the value.
func (v value) problem(what, mend string) {
	v.load.problems.add(Problem{File: v.load.file, Line: v.node.Line, Path: v.path, What: what, Mend: mend})
}

// mapping hands each value to the function of its key. Unknown and repeated
// keys are problems.
func (v value) mapping(table keys) {
	known := slices.Sorted(maps.Keys(table))
	v.entries(func(name string, key, entry value) {
		if read, ok := table[name]; ok {
			read(entry)
		} else {
			key.problem("unknown key", suggestion(name, known))
		}
	})
}

// named hands each value of a mapping with free names to read.
func (v value) named(read func(name string, key, entry value)) {
	v.entries(func(name string, key, entry value) {
		if err := declare.CheckName(name); err != nil {
			key.problem(declare.Show(name)+" "+err.Error(), "")
		}
		read(name, key, entry)
	})
}

// entries walks a mapping; an absent value is an empty one. key and entry have
// the path of the entry.
func (v value) entries(visit func(name string, key, entry value)) {
	if v.null() {
		return
	}
	node := v.target()
	if node.Kind != yaml.MappingNode {
		v.problem("must be a section with keys, not "+kindOf(node), "indent its keys below it")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i].Value
		path := name
		if v.path != "" {
			path = v.path + "." + name
		}
		key := value{v.load, node.Content[i], path}
		switch first, repeated := seen[name]; {
		case node.Content[i].Kind != yaml.ScalarNode:
			key.path = v.path
			key.problem("a key must be a plain word", "")
		case repeated:
			key.problem("stands there twice, first in line "+strconv.Itoa(first), "remove one")
		default:
			seen[name] = key.node.Line
			visit(name, key, value{v.load, node.Content[i+1], path})
		}
	}
}

// require records that a section, filled or empty, lacks a key. at is where the
// section begins.
func (v value) require(at value, name, mend string) {
	node := v.target()
	if node.Kind != yaml.MappingNode && !v.null() {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return
		}
	}
	at.lacks(name, mend)
}

// lacks records that a key is missing in the section that begins here.
func (v value) lacks(name, mend string) {
	if v.path != "" {
		name = v.path + "." + name
	}
	value{v.load, v.node, name}.problem("is missing", mend)
}

// list hands each element to read.
func (v value) list(read func(value)) {
	node := v.target()
	if v.missing() {
		return
	}
	if node.Kind != yaml.SequenceNode {
		v.problem("must be a list, not "+kindOf(node), `write ["one", "two"] or one line with "- " for each`)
		return
	}
	for i, element := range node.Content {
		read(value{v.load, element, v.path + "[" + strconv.Itoa(i) + "]"})
	}
}

// text reads a string without control characters.
func (v value) text() (string, bool) {
	node := v.target()
	if v.missing() {
		return "", false
	}
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" {
		mend := ""
		if node.Kind == yaml.ScalarNode {
			mend = "put it in quotes"
		}
		v.problem("must be text, not "+kindOf(node), mend)
		return "", false
	}
	for _, r := range node.Value {
		if r < ' ' || r == 0x7f {
			v.problem("contains a control character", "remove it")
			return "", false
		}
	}
	return node.Value, true
}

// filled reads a string that is not empty.
func (v value) filled() (string, bool) {
	text, ok := v.text()
	if ok && text == "" {
		v.problem("is empty", "give it a value, or remove the key for its default")
		return "", false
	}
	return text, ok
}

// file reads a path and joins it with the folder of the configuration.
func (v value) file(into *string) {
	if text, ok := v.filled(); ok {
		*into = v.load.join(text)
	}
}

// boolean reads true or false.
func (v value) boolean(into *bool) {
	node := v.target()
	if v.missing() {
		return
	}
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!bool" {
		v.problem("must be true or false, not "+kindOf(node), "")
		return
	}
	*into = strings.EqualFold(node.Value, "true")
}

// number reads a number, whole or not.
func (v value) number() (float64, bool) {
	node := v.target()
	tag := node.ShortTag()
	if v.missing() {
		return 0, false
	}
	if node.Kind == yaml.ScalarNode && (tag == "!!int" || tag == "!!float") {
		if n, err := strconv.ParseFloat(node.Value, 64); err == nil {
			return n, true
		}
	}
	v.problem("must be a number, not "+kindOf(node), "")
	return 0, false
}

// limit reads a positive whole number, or "unlimited" as -1.
func (v value) limit(into *int) {
	node := v.target()
	if v.missing() {
		return
	}
	if node.Kind == yaml.ScalarNode && node.Value == unlimited {
		*into = -1
		return
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!int" {
		if n, err := strconv.Atoi(node.Value); err == nil && n > 0 {
			*into = n
			return
		}
	}
	v.problem("must be a whole number above 0", "or the word unlimited")
}

// count reads a whole number from 1 to most.
func (v value) count(into *int, most int) {
	if v.missing() {
		return
	}
	if node := v.target(); node.Kind == yaml.ScalarNode && node.ShortTag() == "!!int" {
		if n, err := strconv.Atoi(node.Value); err == nil && n > 0 && n <= most {
			*into = n
			return
		}
	}
	v.problem("must be a whole number from 1 to "+strconv.Itoa(most), "")
}

// unlimited is how a limit is switched off.
const unlimited = "unlimited"

// duration reads a positive duration, or a number of seconds.
func (v value) duration(into *time.Duration) {
	v.parsed("a duration", func(text string) error {
		d, err := declare.Duration(text)
		if err == nil && d <= 0 {
			v.problem("must be longer than nothing", "write a duration such as 30s or 1h")
			return nil
		}
		*into = d
		return err
	}, "write a duration such as 30s, 1h or 30d, or a number of seconds")
}

// parsed reads text or a number with parse, whose error completes a sentence.
func (v value) parsed(what string, parse func(string) error, mend string) {
	node := v.target()
	tag := node.ShortTag()
	if v.missing() {
		return
	}
	if node.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!int" {
		v.problem("must be "+what+", not "+kindOf(node), mend)
		return
	}
	if err := parse(node.Value); err != nil {
		v.problem(declare.Show(node.Value)+" "+err.Error(), mend)
	}
}

// missing records that there is no value where one is needed.
func (v value) missing() bool {
	if v.null() {
		v.problem("has no value", "give it one, or remove it for the default")
		return true
	}
	return false
}

// null tells that the key stands there without a value.
func (v value) null() bool {
	node := v.target()
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" || node.Kind == 0
}

// target follows an alias. The parser has refused aliases without an anchor,
// and the walk is as deep as the tables, so a loop does no harm.
func (v value) target() *yaml.Node {
	node := v.node
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// kindOf words what a node is, without its value.
func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	case "!!str":
		return "text"
	}
	return "a value with the tag " + declare.Show(node.Tag)
}

// suggestion words the hint for an unknown key.
func suggestion(name string, known []string) string {
	if near := declare.Nearest(name, known); near != "" {
		return "did you mean " + strconv.Quote(near) + "?"
	}
	return "known here: " + strings.Join(known, ", ")
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxProblem words what the YAML parser says. What it quotes is left out: it
// may be a password that somebody wrote without quotes.
func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, What: "is not valid YAML"}
	parts := yamlError.FindStringSubmatch(err.Error())
	if parts == nil {
		return p
	}
	p.Line, _ = strconv.Atoi(parts[1])
	switch what := parts[2]; {
	case strings.HasPrefix(what, "unknown anchor"):
		p.What, p.Mend = "an alias names an anchor that does not exist", "put a value that begins with * in quotes"
	case strings.Contains(what, "cannot start any token"):
		p.What, p.Mend = "is not valid YAML: "+what, "indent with blanks, not tabs, and put values with special characters in quotes"
	case !strings.ContainsAny(what, "'`\""):
		p.What += ": " + what
	}
	return p
}
