package siptest_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/sipadapter/siptest"
)

func TestLocationTable(t *testing.T) {
	const aor = "sip:alice@example.test"
	contacts := func(r *siptest.Registrar) []string {
		var out []string
		for _, b := range r.Bindings(aor) {
			out = append(out, b.Contact+b.Params)
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		options siptest.Options
		request register
		status  int
		want    []string // after <a> expires=600 and <b> expires=30 are there
		text    string
	}{
		{"refresh replaces", siptest.Options{}, register{contact: "Contact: <sip:a@h>;q=1;expires=60\r\n"}, 200, []string{"sip:b@h", "sip:a@h;q=1"}, "<sip:a@h>;q=1;expires=60"},
		{"expires=0 removes", siptest.Options{}, register{contact: "Contact: <sip:a@h>;expires=0\r\n"}, 200, []string{"sip:b@h"}, ""},
		{"Expires: 0 removes", siptest.Options{}, register{contact: "Contact: <sip:a@h>\r\n", expires: "0"}, 200, []string{"sip:b@h"}, ""},
		{"REG-09 star", siptest.Options{}, register{contact: "Contact: *\r\n", expires: "0"}, 200, nil, ""},
		{"REG-09 star without Expires: 0", siptest.Options{}, register{contact: "Contact: *\r\n", expires: "60"}, 400, []string{"sip:a@h", "sip:b@h"}, ""},
		{"REG-09 star with a contact", siptest.Options{}, register{contact: "Contact: *, <sip:a@h>\r\n", expires: "0"}, 400, []string{"sip:a@h", "sip:b@h"}, ""},
		{"REG-10 fetch", siptest.Options{}, register{contact: "X: y\r\n"}, 200, []string{"sip:a@h", "sip:b@h"}, "<sip:b@h>;expires="},
		{"REG-23 too brief", siptest.Options{MinExpires: 20}, register{contact: "Contact: <sip:a@h>;expires=19\r\n"}, 423, []string{"sip:a@h", "sip:b@h"}, "Min-Expires: 20"},
		{"shortened", siptest.Options{MaxExpires: 50}, register{contact: "Contact: <sip:a@h>;expires=60\r\n"}, 200, []string{"sip:b@h", "sip:a@h"}, "<sip:a@h>;expires=50"},
		{"granted whatever was asked", siptest.Options{GrantExpires: 7200}, register{contact: "Contact: <sip:a@h>;expires=60\r\n"}, 200, []string{"sip:b@h", "sip:a@h"}, "<sip:a@h>;expires=7200"},
		{"REG-14 malformed is an hour", siptest.Options{}, register{contact: "Contact: <sip:a@h>;expires=x\r\n"}, 200, []string{"sip:b@h", "sip:a@h"}, "<sip:a@h>;expires=3600"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, tt.options)
			c := dial(t, r, "udp")
			c.ask(register{contact: "Contact: <sip:a@h>;expires=600\r\nContact: <sip:b@h>;expires=30\r\n"}).want(t, 200)
			tt.request.cseq = 2
			res := c.ask(tt.request).want(t, tt.status)
			if diff := cmp.Diff(tt.want, contacts(r)); diff != "" {
				t.Errorf("bindings (-want +got)\n%s", diff)
			}
			if !strings.Contains(res.text, tt.text) {
				t.Errorf("no %q in\n%s", tt.text, res.text)
			}
		})
	}
	t.Run("compact form", func(t *testing.T) {
		r := start(t, siptest.Options{})
		c := dial(t, r, "udp")
		c.write(compact("z9hG4bKc"))
		res := c.read().want(t, 200)
		if diff := cmp.Diff([]string{"sip:a@192.0.2.1;x=1;q=0.5", "sip:b@192.0.2.1"}, contacts(r)); diff != "" {
			t.Errorf("bindings (-want +got)\n%s\n%s", diff, res.text)
		}
		if !strings.Contains(res.text, "expires=60") || !strings.Contains(res.text, "expires=3600") {
			t.Error(res.text)
		}
	})
}
