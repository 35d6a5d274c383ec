// Package strictjson is the fast path of reading JSON from callers. It accepts what RFC 8259 and RFC 7493 want, like
// package jsontext in its strictest form, in one pass and without allocating. It does not know everything: of a text
// that is rare or wrong it only says that it is not sure, and package jsontext has to decide. It must never accept what
// jsontext refuses.
package strictjson

import (
	"bytes"
	"unicode/utf8"
)

// A Member is one member of an object. Both parts lie in the text that was read.
type Member struct {
	Name  []byte // without quotes; it has no escapes
	Value []byte // as it is written, without white space around it
}

// Valid reports whether text is certainly one JSON value: valid UTF-8 without lone surrogates, no object with duplicate
// members, nothing but white space around it, nested at most depth deep. compact tells that there is no white space
// except in strings.
func Valid(text []byte, depth int) (ok, compact bool) {
	s := scanner{text: text, compact: true}
	return s.all(depth), s.compact
}

// Members appends the members of the object that text is, in their order. ok is false unless text is certainly valid, as
// Valid has it, and an object of at most MaxMembers members.
func Members(dst []Member, text []byte, depth int) (members []Member, ok bool) {
	s := scanner{text: text, collect: true}
	if s.space() != '{' || !s.all(depth) {
		return dst, false
	}
	for _, m := range s.members[:s.found] {
		dst = append(dst, Member{
			Name: text[m.name.start:m.name.end:m.name.end], Value: text[m.value.start:m.value.end:m.value.end],
		})
	}
	return dst, true
}

const (
	MaxMembers = 16 // of the outermost object, as far as Members is sure
	maxNames   = 64 // of all objects that are open at a time
)

// A scanner goes through a text. Its methods return false as soon as they are not sure.
type scanner struct {
	text    []byte
	pos     int
	compact bool // no white space so far
	collect bool // the members of the outermost object
	members [MaxMembers]struct{ name, value span }
	found   int // of members

	names [maxNames]span // of the objects that are open, those of the innermost last
	used  int
}

// A span is a part of the text.
type span struct{ start, end int }

func (s *scanner) all(depth int) bool {
	s.space()
	return s.value(depth) && s.space() == 0 && s.pos == len(s.text)
}

// space skips white space and returns the byte after it, 0 at the end.
func (s *scanner) space() byte {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
			s.compact = false
		default:
			return c
		}
	}
	return 0
}

// next skips white space and then want, if it is there.
func (s *scanner) next(want byte) bool {
	if s.space() != want {
		return false
	}
	s.pos++
	return true
}

// value reads a value that begins here, in which so many objects and arrays may lie within each other.
func (s *scanner) value(depth int) bool {
	if s.pos == len(s.text) {
		return false
	}
	switch c := s.text[s.pos]; c {
	case '{':
		return depth > 0 && s.object(depth-1)
	case '[':
		return depth > 0 && s.array(depth-1)
	case '"':
		_, ok := s.string()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) object(depth int) bool {
	s.pos++
	if s.next('}') {
		return true
	}
	first := s.used
	collect := s.collect
	s.collect = false // not of the objects within
	for {
		if s.space() != '"' {
			return false
		}
		name, ok := s.string()
		if !ok || !s.isNew(name, first) || !s.next(':') {
			return false
		}
		s.space()
		start := s.pos
		if !s.value(depth) {
			return false
		}
		if collect {
			if s.found == len(s.members) {
				return false
			}
			m := &s.members[s.found]
			m.name, m.value = name, span{start, s.pos}
			s.found++
		}
		if s.next(',') {
			continue
		}
		s.used = first
		return s.next('}')
	}
}

// isNew remembers a name of the object whose names begin at first. Whether a name with escapes is one that was there
// already does not show in its bytes.
func (s *scanner) isNew(name span, first int) bool {
	text := s.text[name.start:name.end]
	if s.used == maxNames || bytes.IndexByte(text, '\\') >= 0 {
		return false
	}
	for _, old := range s.names[first:s.used] {
		if string(s.text[old.start:old.end]) == string(text) {
			return false
		}
	}
	s.names[s.used] = name
	s.used++
	return true
}

func (s *scanner) array(depth int) bool {
	s.pos++
	if s.next(']') {
		return true
	}
	for {
		s.space()
		if !s.value(depth) {
			return false
		}
		if s.next(',') {
			continue
		}
		return s.next(']')
	}
}

// string reads a string and returns what lies between its quotes.
func (s *scanner) string() (inner span, ok bool) {
	start := s.pos + 1
	for i := start; i < len(s.text); {
		switch c := s.text[i]; {
		case c == '"':
			s.pos = i + 1
			return span{start, i}, true
		case c == '\\':
			n := escape(s.text[i:])
			if n == 0 {
				return span{}, false
			}
			i += n
		case c < ' ':
			return span{}, false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(s.text[i:])
			if r == utf8.RuneError && n == 1 {
				return span{}, false
			}
			i += n
		}
	}
	return span{}, false
}

// escape is the length of the escape that text begins with, 0 when not sure. Surrogates come in pairs, which jsontext
// knows about.
func escape(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		const length = 6
		if len(text) < length {
			return 0
		}
		for _, c := range text[2:length] {
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return 0
			}
		}
		if (text[2] == 'd' || text[2] == 'D') && text[3] >= '8' {
			return 0
		}
		return length
	}
	return 0
}

func (s *scanner) literal(want string) bool {
	rest := s.text[s.pos:]
	if len(rest) < len(want) || string(rest[:len(want)]) != want {
		return false
	}
	s.pos += len(want)
	return true
}

// number reads a number (RFC 8259 section 6).
func (s *scanner) number() bool {
	s.optional("-")
	if s.optional("0") == 0 && s.digits() == 0 {
		return false
	}
	if s.optional(".") != 0 && s.digits() == 0 {
		return false
	}
	if s.optional("eE") != 0 {
		s.optional("+-")
		return s.digits() > 0
	}
	return true
}

// optional skips one byte if it is one of those, and returns it.
func (s *scanner) optional(of string) byte {
	if s.pos < len(s.text) && bytes.IndexByte([]byte(of), s.text[s.pos]) >= 0 {
		s.pos++
		return s.text[s.pos-1]
	}
	return 0
}

// digits skips digits and returns how many there were.
func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}
