package keyset

// Parse is the loader without the file, for fuzzing.
var Parse = parse
