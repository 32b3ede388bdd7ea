package messages

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
)

// ErrUnknownEvent is returned for an event type that this release does not
// know. The stream must stop: skipping it would rebuild a wrong state.
var ErrUnknownEvent = errors.New("unknown event type")

// NewProfileEvent wraps one of the event messages; any other type panics.
func NewProfileEvent(body any) *ProfileEvent {
	switch b := body.(type) {
	case *ProfileAdded:
		return &ProfileEvent{Event: &ProfileEvent_Added{b}}
	case *ProfileChanged:
		return &ProfileEvent{Event: &ProfileEvent_Changed{b}}
	case *ProfileEnabled:
		return &ProfileEvent{Event: &ProfileEvent_Enabled{b}}
	case *ProfileDisabled:
		return &ProfileEvent{Event: &ProfileEvent_Disabled{b}}
	case *ProfileRemoved:
		return &ProfileEvent{Event: &ProfileEvent_Removed{b}}
	case *ProfileForgotten:
		return &ProfileEvent{Event: &ProfileEvent_Forgotten{b}}
	case *CredentialsReplaced:
		return &ProfileEvent{Event: &ProfileEvent_CredentialsReplaced{b}}
	case *RefreshRequested:
		return &ProfileEvent{Event: &ProfileEvent_RefreshRequested{b}}
	case *CallIDChosen:
		return &ProfileEvent{Event: &ProfileEvent_CallIdChosen{b}}
	case *AttemptStarted:
		return &ProfileEvent{Event: &ProfileEvent_AttemptStarted{b}}
	case *ChallengeReceived:
		return &ProfileEvent{Event: &ProfileEvent_ChallengeReceived{b}}
	case *CredentialsSupplied:
		return &ProfileEvent{Event: &ProfileEvent_CredentialsSupplied{b}}
	case *CredentialsRefused:
		return &ProfileEvent{Event: &ProfileEvent_CredentialsRefused{b}}
	case *BindingGranted:
		return &ProfileEvent{Event: &ProfileEvent_BindingGranted{b}}
	case *BindingRemoved:
		return &ProfileEvent{Event: &ProfileEvent_BindingRemoved{b}}
	case *BindingLapsed:
		return &ProfileEvent{Event: &ProfileEvent_BindingLapsed{b}}
	case *BindingsFetched:
		return &ProfileEvent{Event: &ProfileEvent_BindingsFetched{b}}
	case *AttemptFailed:
		return &ProfileEvent{Event: &ProfileEvent_AttemptFailed{b}}
	case *AttemptInterrupted:
		return &ProfileEvent{Event: &ProfileEvent_AttemptInterrupted{b}}
	case *ProfileHalted:
		return &ProfileEvent{Event: &ProfileEvent_Halted{b}}
	case *IntervalRaised:
		return &ProfileEvent{Event: &ProfileEvent_IntervalRaised{b}}
	case *Redirected:
		return &ProfileEvent{Event: &ProfileEvent_Redirected{b}}
	case *RequestAdapted:
		return &ProfileEvent{Event: &ProfileEvent_RequestAdapted{b}}
	case *CredentialsDeclined:
		return &ProfileEvent{Event: &ProfileEvent_CredentialsDeclined{b}}
	case *SecuritySet:
		return &ProfileEvent{Event: &ProfileEvent_SecuritySet{b}}
	}
	panic(fmt.Sprintf("messages: %T is not a profile event", body))
}

// NewNonceCounts returns n empty counts; the usual one is one piece of memory.
func NewNonceCounts(n int) []*NonceCount {
	if n == 1 {
		room := new(struct {
			list  [1]*NonceCount
			count NonceCount
		})
		room.list[0] = &room.count
		return room.list[:]
	}
	list := make([]*NonceCount, n)
	for i := range list {
		list[i] = new(NonceCount)
	}
	return list
}

// EventTypes lists the type name of every event of profiles and sessions, each
// once: the label values of muster_journal_events_total.
func EventTypes() []string {
	names := typesOf(&ProfileEvent{})
	for _, name := range typesOf(&SessionEvent{}) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ProfileEventTypes lists those of profiles, in field order.
func ProfileEventTypes() []string { return typesOf(&ProfileEvent{}) }

func typesOf(event proto.Message) []string {
	fields := event.ProtoReflect().Descriptor().Oneofs().ByName("event").Fields()
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Message().Name())
	}
	return names
}

// TypeName is the name of the event's type, such as "BindingGranted", or ""
// when the type is unknown.
func (e *ProfileEvent) TypeName() string {
	switch e.GetEvent().(type) {
	case *ProfileEvent_Added:
		return "ProfileAdded"
	case *ProfileEvent_Changed:
		return "ProfileChanged"
	case *ProfileEvent_Enabled:
		return "ProfileEnabled"
	case *ProfileEvent_Disabled:
		return "ProfileDisabled"
	case *ProfileEvent_Removed:
		return "ProfileRemoved"
	case *ProfileEvent_Forgotten:
		return "ProfileForgotten"
	case *ProfileEvent_CredentialsReplaced:
		return "CredentialsReplaced"
	case *ProfileEvent_RefreshRequested:
		return "RefreshRequested"
	case *ProfileEvent_CallIdChosen:
		return "CallIDChosen"
	case *ProfileEvent_AttemptStarted:
		return "AttemptStarted"
	case *ProfileEvent_ChallengeReceived:
		return "ChallengeReceived"
	case *ProfileEvent_CredentialsSupplied:
		return "CredentialsSupplied"
	case *ProfileEvent_CredentialsRefused:
		return "CredentialsRefused"
	case *ProfileEvent_BindingGranted:
		return "BindingGranted"
	case *ProfileEvent_BindingRemoved:
		return "BindingRemoved"
	case *ProfileEvent_BindingLapsed:
		return "BindingLapsed"
	case *ProfileEvent_BindingsFetched:
		return "BindingsFetched"
	case *ProfileEvent_AttemptFailed:
		return "AttemptFailed"
	case *ProfileEvent_AttemptInterrupted:
		return "AttemptInterrupted"
	case *ProfileEvent_Halted:
		return "ProfileHalted"
	case *ProfileEvent_IntervalRaised:
		return "IntervalRaised"
	case *ProfileEvent_Redirected:
		return "Redirected"
	case *ProfileEvent_RequestAdapted:
		return "RequestAdapted"
	case *ProfileEvent_CredentialsDeclined:
		return "CredentialsDeclined"
	case *ProfileEvent_SecuritySet:
		return "SecuritySet"
	}
	return ""
}
