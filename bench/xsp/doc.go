// Package xsp measures what a question to an xSP costs, through the whole farm
// and beside the DigestActor in the same run: CPU and allocations of a
// challenged registration, with a journal in memory and a registrar that
// answers at once, so that little but the actors is counted.
//
//	go test -run '^$' -bench . -benchtime 20000x ./bench/xsp
package xsp
