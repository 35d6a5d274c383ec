package devidp

// ParseState reads a state without its file, for fuzzing.
var ParseState = parseState
