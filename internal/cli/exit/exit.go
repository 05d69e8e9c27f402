// Package exit has errors that the process ends with another exit code for.
package exit

// Error is an error with the process's exit code.
type Error struct {
	error
	code int
}

// With gives an error that code.
func With(code int, err error) error { return Error{err, code} }

// ExitCode is what the process ends with.
func (e Error) ExitCode() int { return e.code }

// Unwrap gives the error without its code.
func (e Error) Unwrap() error { return e.error }
