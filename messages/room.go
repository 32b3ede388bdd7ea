package messages

// EventRoom is memory for the events that a registration records, one of each
// type, to be used again for the next append. Without room (of a nil EventRoom,
// or for the second event of a type) an event is allocated.
type EventRoom struct {
	callIDChosen      callIDChosen
	attemptStarted    attemptStarted
	challengeReceived challengeReceived
	bindingGranted    bindingGranted
	taken             uint8
}

// The places in an EventRoom, as bits of taken.
const (
	takenCallIDChosen = 1 << iota
	takenAttemptStarted
	takenChallengeReceived
	takenBindingGranted
)

// Clear makes room again: the events that came from here must be done with.
func (r *EventRoom) Clear() { r.taken = 0 }

func (r *EventRoom) take(place uint8) bool {
	if r == nil || r.taken&place != 0 {
		return false
	}
	r.taken |= place
	return true
}

// An event in one piece of memory with the choice of its type and its body.
type (
	callIDChosen struct {
		event  ProfileEvent
		choice ProfileEvent_CallIdChosen
		body   CallIDChosen
	}
	attemptStarted struct {
		event  ProfileEvent
		choice ProfileEvent_AttemptStarted
		body   AttemptStarted
	}
	challengeReceived struct {
		event  ProfileEvent
		choice ProfileEvent_ChallengeReceived
		body   ChallengeReceived
	}
	bindingGranted struct {
		event  ProfileEvent
		choice ProfileEvent_BindingGranted
		body   BindingGranted
	}
)

// CallIDChosen returns an event and its body, which is to be filled in.
func (r *EventRoom) CallIDChosen() (*ProfileEvent, *CallIDChosen) {
	var e *callIDChosen
	if r.take(takenCallIDChosen) {
		e = &r.callIDChosen
		*e = callIDChosen{}
	} else {
		e = new(callIDChosen)
	}
	e.choice.CallIdChosen, e.event.Event = &e.body, &e.choice
	return &e.event, &e.body
}

// AttemptStarted is the like of CallIDChosen.
func (r *EventRoom) AttemptStarted() (*ProfileEvent, *AttemptStarted) {
	var e *attemptStarted
	if r.take(takenAttemptStarted) {
		e = &r.attemptStarted
		*e = attemptStarted{}
	} else {
		e = new(attemptStarted)
	}
	e.choice.AttemptStarted, e.event.Event = &e.body, &e.choice
	return &e.event, &e.body
}

// ChallengeReceived is the like of CallIDChosen.
func (r *EventRoom) ChallengeReceived() (*ProfileEvent, *ChallengeReceived) {
	var e *challengeReceived
	if r.take(takenChallengeReceived) {
		e = &r.challengeReceived
		*e = challengeReceived{}
	} else {
		e = new(challengeReceived)
	}
	e.choice.ChallengeReceived, e.event.Event = &e.body, &e.choice
	return &e.event, &e.body
}

// BindingGranted is the like of CallIDChosen.
func (r *EventRoom) BindingGranted() (*ProfileEvent, *BindingGranted) {
	var e *bindingGranted
	if r.take(takenBindingGranted) {
		e = &r.bindingGranted
		*e = bindingGranted{}
	} else {
		e = new(bindingGranted)
	}
	e.choice.BindingGranted, e.event.Event = &e.body, &e.choice
	return &e.event, &e.body
}
