package apidoc

// Markdown is what a description becomes.
func Markdown(source string, level int) string { return string(markdown(source, level)) }
