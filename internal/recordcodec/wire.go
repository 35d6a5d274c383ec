package recordcodec

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// An Error says why stored bytes are not what this package writes.
type Error string

// Error implements error.
func (e Error) Error() string { return "corrupt value: " + string(e) }

func corrupt(format string, args ...any) error { return Error(fmt.Sprintf(format, args...)) }

type encoder []byte

func (e *encoder) bytes(n protowire.Number, b []byte) {
	if len(b) > 0 {
		*e = protowire.AppendBytes(protowire.AppendTag(*e, n, protowire.BytesType), b)
	}
}

func (e *encoder) text(n protowire.Number, s string) {
	if s != "" {
		*e = protowire.AppendString(protowire.AppendTag(*e, n, protowire.BytesType), s)
	}
}

func (e *encoder) number(n protowire.Number, v int64) {
	if v != 0 {
		*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.VarintType), uint64(v))
	}
}

// time writes all times but the zero time, also the beginning of Unix time.
func (e *encoder) time(n protowire.Number, t time.Time) {
	if !t.IsZero() {
		*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.VarintType), uint64(t.UnixMilli()))
	}
}

// pair writes a message of two texts. An empty pair is written if always is set.
func (e *encoder) pair(n protowire.Number, a, b string, always bool) {
	if a == "" && b == "" && !always {
		return
	}
	size := 0
	for _, s := range [...]string{a, b} {
		if s != "" {
			size += protowire.SizeTag(1) + protowire.SizeBytes(len(s))
		}
	}
	*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.BytesType), uint64(size))
	e.text(1, a)
	e.text(2, b)
}

func (e *encoder) hash(n protowire.Number, h [32]byte) {
	if h != ([32]byte{}) {
		e.bytes(n, h[:])
	}
}

// A field is one field of a message, as it was read.
type field struct {
	num protowire.Number
	typ protowire.Type
	n   uint64 // value of a varint
	s   string // value of a text or of bytes
	raw string // the whole field
}

// nextField cuts the first field off *s.
func nextField(s *string) (f field, err error) {
	b := []byte(*s) // the compiler does not copy it, since nothing keeps or changes it
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, corrupt("field tag: %v", protowire.ParseError(n))
	}
	size := n + protowire.ConsumeFieldValue(num, typ, b[n:])
	if size < n {
		return f, corrupt("field %d is cut off or malformed", num)
	}
	f = field{num: num, typ: typ, raw: (*s)[:size]}
	switch typ {
	case protowire.VarintType:
		f.n, _ = protowire.ConsumeVarint(b[n:])
	case protowire.BytesType:
		length, m := protowire.ConsumeVarint(b[n:])
		f.s = (*s)[n+m : n+m+int(length)]
	}
	*s = (*s)[size:]
	return f, nil
}

// A decoder reads the values of fields and remembers what was wrong.
type decoder struct{ err error }

func (d *decoder) fail(f field, what string) {
	if d.err == nil {
		d.err = corrupt("field %d: %s", f.num, what)
	}
}

func (d *decoder) text(f field) string {
	if f.typ != protowire.BytesType {
		d.fail(f, "not bytes")
	}
	return f.s
}

func (d *decoder) number(f field) int64 {
	if f.typ != protowire.VarintType {
		d.fail(f, "not a number")
	}
	return int64(f.n)
}

func (d *decoder) time(f field) time.Time { return time.UnixMilli(d.number(f)).UTC() }

func (d *decoder) fixed(f field, dst []byte) {
	if s := d.text(f); len(s) != len(dst) {
		d.fail(f, "wrong length")
	} else {
		copy(dst, s)
	}
}

func (d *decoder) pair(f field) (a, b string) {
	s := d.text(f)
	for len(s) > 0 {
		g, err := nextField(&s)
		if err != nil {
			d.fail(f, err.Error())
			return "", ""
		}
		switch g.num {
		case 1:
			a = d.text(g)
		case 2:
			b = d.text(g)
		}
	}
	return a, b
}
