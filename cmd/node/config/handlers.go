package config

import "github.com/sipmuster/muster/admin/declare"

// handlerUse is a place that names handlers.
type handlerUse struct {
	value
	names []string
}

// handlers reads who answers challenges. Whether the names exist is checked
// later: the section xsp may stand further down.
func (v value) handlers(into *string) {
	text, ok := v.filled()
	if !ok {
		return
	}
	names, err := declare.Handlers(text)
	if err != nil {
		v.problem(declare.Show(text)+" "+err.Error(), declare.HandlerMend)
		return
	}
	*into = text
	v.load.handlers = append(v.load.handlers, handlerUse{v, names})
}

// checkHandlers finds the names in the configuration that nobody has.
func (l *loader) checkHandlers() {
	for _, use := range l.handlers {
		if fault, unknown := declare.UnknownHandler(use.names, l.xsps); unknown {
			use.problem(fault.What, fault.Mend)
		}
	}
}

// unknown finds the first handler of a profile that nobody has.
func (c *crossCheck) unknown(text string) (declare.Fault, bool) {
	if c.sound[text] {
		return declare.Fault{}, false
	}
	names, err := declare.Handlers(text)
	if err != nil {
		return declare.Fault{What: err.Error(), Mend: declare.HandlerMend}, true
	}
	fault, unknown := declare.UnknownHandler(names, c.xsps)
	if !unknown {
		c.sound[text] = true
	}
	return fault, unknown
}
