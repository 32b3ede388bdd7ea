// Package declare reads profiles as people write them: as a row of a CSV file,
// a line of a JSON-lines file, or the JSON body of a request; and the requests
// for calls.
//
// It owns the names of the fields (design §9), what each may hold, and the
// words that say what is wrong. The configuration, the command line and the
// HTTP API all read through it, so that a profile refused by one is refused by
// all, with the same sentence.
//
// # Promises
//
//   - Every fault of a declaration is reported, not the first.
//   - No fault, error or log text contains the value of a secret field, or of a
//     header or body of a call. Where the columns of a row cannot be trusted (a
//     missing header, a wrong number of fields, a broken quote) no value of that
//     row is shown at all.
//   - Files are read line by line; a line is at most MaxLine bytes. Memory does
//     not grow with the file.
//
// # What it leaves to others
//
// Whether a registrar or a handler of that name exists is known only to the
// configuration and the node. Duplicates are found by those who see all rows.
//
// Read fields.go for the table of fields, handlers.go for who answers
// challenges, csv.go and json.go for the two spellings, reader.go for files,
// session.go for calls.
package declare
