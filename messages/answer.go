package messages

// CredentialsHeader is the header that answers a challenge of the space (CHA-01),
// "" for a space that is none.
func (s Space) CredentialsHeader() string {
	switch s {
	case Space_ORIGIN:
		return "Authorization"
	case Space_PROXY:
		return "Proxy-Authorization"
	default:
		return ""
	}
}

// AddCredentials adds the answer to one challenge. The first header of a kind
// replaces what the request carries, the others are lines of their own:
// credentials are never joined by commas (RFC 3261 §20.7, §20.28).
func (x *AuthAnswer) AddCredentials(c *Challenge, value string) {
	x.AddMutation(c, &HeaderMutation{Value: value})
}

// AddMutation is AddCredentials for a mutation that has its value already.
func (x *AuthAnswer) AddMutation(c *Challenge, m *HeaderMutation) {
	m.Op, m.Name = Op_SET, c.GetSpace().CredentialsHeader()
	for _, before := range x.GetMutations() {
		if before.GetName() == m.Name {
			m.Op = Op_ADD
		}
	}
	x.Answered = append(x.Answered, c.GetIndex())
	x.Mutations = append(x.Mutations, m)
}
