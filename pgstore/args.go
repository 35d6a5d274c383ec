package pgstore

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// args are the values of a statement's parameters in the server's binary format.
// They are put one after the other, in the order in which the statement declares
// its parameters; any other order is a mistake of the program and panics.
// Not for concurrent use.
type args struct {
	st     *statement
	values [][]byte // nil is null
	buf    []byte   // holds what values point to
}

// args begins a list of values.
func (st *statement) args() *args {
	return &args{st: st, values: make([][]byte, 0, len(st.pars)), buf: make([]byte, 0, 24*len(st.pars))}
}

// timed begins the list of a statement whose first parameters are those of the
// store's clock.
func (s *Store) timed(st *statement) *args {
	return st.args().int("low", s.clock.low()).int("skew", s.skew().Milliseconds())
}

// list is all the values.
func (a *args) list() [][]byte {
	if len(a.values) != len(a.st.pars) {
		panic(fmt.Sprintf("pgstore: statement %s lacks parameter %s", a.st.name, a.st.pars[len(a.values)]))
	}
	return a.values
}

func (a *args) put(par string, v []byte) *args {
	if n := len(a.values); n == len(a.st.pars) || a.st.pars[n] != par {
		panic(fmt.Sprintf("pgstore: %s is not parameter %d of statement %s", par, n+1, a.st.name))
	}
	a.values = append(a.values, v)
	return a
}

// since is what was appended to the buffer after it had n bytes. It is not nil.
func (a *args) since(n int) []byte { return a.buf[n:len(a.buf):len(a.buf)] }

func (a *args) null(par string) *args { return a.put(par, nil) }

// int puts a bigint.
func (a *args) int(par string, v int64) *args {
	n := len(a.buf)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(v))
	return a.put(par, a.since(n))
}

// int32 puts an int.
func (a *args) int32(par string, v int32) *args {
	n := len(a.buf)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(v))
	return a.put(par, a.since(n))
}

func (a *args) bool(par string, v bool) *args {
	n := len(a.buf)
	b := byte(0)
	if v {
		b = 1
	}
	a.buf = append(a.buf, b)
	return a.put(par, a.since(n))
}

func (a *args) text(par, v string) *args {
	n := len(a.buf)
	a.buf = append(a.buf, v...)
	return a.put(par, a.since(n))
}

// bytes puts a bytea, null for nil. The bytes must stay as they are until the
// statement was sent.
func (a *args) bytes(par string, v []byte) *args { return a.put(par, v) }

// hash puts a bytea, null for zeros.
func (a *args) hash(par string, v *[32]byte) *args {
	if *v == ([32]byte{}) {
		return a.null(par)
	}
	return a.bytes(par, v[:])
}

// labels puts labels as jsonb, null when there are none.
func (a *args) labels(par string, labels map[string]string) (*args, error) {
	if len(labels) == 0 {
		return a.null(par), nil
	}
	for k, v := range labels {
		// The encoder would replace what is not UTF-8 by something else.
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("pgstore: a label is not valid UTF-8")
		}
	}
	b, err := json.Marshal(labels)
	if err != nil {
		return nil, fmt.Errorf("pgstore: labels: %w", err)
	}
	n := len(a.buf)
	a.buf = append(append(a.buf, 1), b...) // 1 is the version of jsonb on the wire
	return a.put(par, a.since(n)), nil
}

// Numbers of types, as in pg_type.
const (
	int8Type = 20
	textType = 25
)

// ints puts a bigint[].
func (a *args) ints(par string, v []int64) *args {
	n := len(a.buf)
	a.array(int8Type, len(v))
	for _, e := range v {
		a.buf = binary.BigEndian.AppendUint32(a.buf, 8)
		a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(e))
	}
	return a.put(par, a.since(n))
}

// texts puts a text[] of n elements.
func (a *args) texts(par string, n int, at func(i int) string) *args {
	from := len(a.buf)
	a.array(textType, n)
	for i := range n {
		e := at(i)
		a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(e)))
		a.buf = append(a.buf, e...)
	}
	return a.put(par, a.since(from))
}

// array appends the head of an array of n elements without nulls.
func (a *args) array(of uint32, n int) {
	if n == 0 {
		a.words(0, 0, of)
		return
	}
	a.words(1, 0, of, uint32(n), 1) // dimensions, nulls, type; length and first index
}

func (a *args) words(words ...uint32) {
	for _, w := range words {
		a.buf = binary.BigEndian.AppendUint32(a.buf, w)
	}
}
