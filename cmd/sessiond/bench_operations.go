package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/internal/load"
)

// A benchOperation is what a run asks a server for.
type benchOperation struct {
	// try asks once, so that a permission that is missing is told in words.
	try func(context.Context, *benchmark) error
	// requests makes the requests; see load.Load.Next.
	requests func(*benchmark) func(connection int, buf []byte) []byte
	title    string // what is asked for, for people
}

var benchOperations = map[string]*benchOperation{
	"get":    {tryGet, (*benchmark).gets, "get"},
	"verify": {tryVerify, (*benchmark).verifies, "verify"},
	"touch":  {tryTouch, (*benchmark).touches, "touch"},
	"list":   {tryList, (*benchmark).lists, fmt.Sprintf("list the %d sessions of a subject", benchListed)},
	"update": {tryUpdate, (*benchmark).updates, "update (merge patch)"},
	"create": {func(context.Context, *benchmark) error { return nil }, (*benchmark).creates, "create"},
	"mix": {func(ctx context.Context, b *benchmark) error {
		if err := tryGet(ctx, b); err != nil {
			return err
		}
		return tryVerify(ctx, b)
	}, (*benchmark).mix, "get and verify in turn"},
}

func benchOperationNames() []string { return slices.Sorted(maps.Keys(benchOperations)) }

func tryGet(ctx context.Context, b *benchmark) error {
	_, err := b.client.Get(ctx, sessiond.ID(b.stock.id(0)))
	return err
}

func tryVerify(ctx context.Context, b *benchmark) error {
	v, err := b.client.Verify(ctx, b.stock.tokens[0], sessiond.VerifyParams{})
	if err == nil && !v.Active {
		err = fmt.Errorf("the server does not verify a session that it has just created: %s", v.Reason)
	}
	return err
}

func tryTouch(ctx context.Context, b *benchmark) error {
	_, err := b.client.Touch(ctx, sessiond.ID(b.stock.id(0)))
	return err
}

func tryList(ctx context.Context, b *benchmark) error {
	_, err := b.client.List(ctx, sessiond.ListParams{Filter: sessiond.Filter{Subject: b.stock.subject(0)}})
	return err
}

func tryUpdate(ctx context.Context, b *benchmark) error {
	_, err := b.client.Patch(ctx, sessiond.ID(b.stock.id(0)), sessiond.PatchParams{Patch: jsontext.Value(benchPatch("0"))})
	return err
}

func benchPatch(value string) string { return `{"data":{"visit":"` + value + `"}}` }

// A benchTemplate is a request with places for values.
type benchTemplate [][]byte

// place stands for a value of n bytes.
func place(n int) string { return strings.Repeat("\x00", n) }

// template makes a request with the places in path and body.
func (b *benchmark) template(method, path, body string) benchTemplate {
	var headers []string
	if b.tenant != "" {
		headers = []string{api.HeaderTenant + ": " + b.tenant}
	}
	request := load.Request(method, b.server.Host, b.server.EscapedPath()+path, b.token, body, headers...)
	var t benchTemplate
	for {
		from := bytes.IndexByte(request, 0)
		if from < 0 {
			return append(t, request)
		}
		t = append(t, request[:from])
		request = bytes.TrimLeft(request[from:], "\x00")
	}
}

// append appends the request with the values, as long as their places.
func (t benchTemplate) append(buf []byte, values ...string) []byte {
	for i, piece := range t {
		buf = append(buf, piece...)
		if i < len(values) {
			buf = append(buf, values[i]...)
		}
	}
	return buf
}

// any is the number of one of the sessions.
func (b *benchmark) any() int64 { return rand.Int64N(int64(b.sessions)) }

func (b *benchmark) ofOne(method, before, after string) func(int, []byte) []byte {
	t := b.template(method, before+place(len(b.stock.id(0)))+after, "")
	return func(_ int, buf []byte) []byte { return t.append(buf, b.stock.id(b.any())) }
}

func (b *benchmark) gets() func(int, []byte) []byte { return b.ofOne("GET", api.PathSessions+"/", "") }

func (b *benchmark) touches() func(int, []byte) []byte {
	return b.ofOne("POST", api.PathSessions+"/", "/touch")
}

func (b *benchmark) lists() func(int, []byte) []byte {
	t := b.template("GET", api.PathSessions+"/?subject="+place(len(b.stock.subject(0))), "")
	return func(_ int, buf []byte) []byte { return t.append(buf, b.stock.subject(b.any())) }
}

func (b *benchmark) verifies() func(int, []byte) []byte {
	t := b.template("POST", api.PathVerify, `{"token":"`+place(len(b.stock.tokens[0]))+`"}`)
	return func(_ int, buf []byte) []byte { return t.append(buf, string(b.stock.tokens[b.any()])) }
}

func (b *benchmark) updates() func(int, []byte) []byte {
	id := b.stock.id(0)
	t := b.template("PATCH", api.PathSessions+"/"+place(len(id)), benchPatch(place(len(id))))
	return func(_ int, buf []byte) []byte {
		return t.append(buf, b.stock.id(b.any()), b.stock.id(rand.Int64N(1_000_000_000))) // any value that is another
	}
}

func (b *benchmark) creates() func(int, []byte) []byte {
	n := place(len(b.stock.id(0)))
	t := b.template("POST", api.PathSessions+"/", fmt.Sprintf(
		`{"id":"%s","subject":"%s","data":%s,"labels":{"bench":"%s"},"expires_in":%d}`,
		n, n, benchData, b.stock.marker, int(b.stock.lifetime.Seconds())))
	return func(_ int, buf []byte) []byte {
		id := b.stock.id(b.stock.used.Add(1) - 1)
		return t.append(buf, id, id)
	}
}

func (b *benchmark) mix() func(int, []byte) []byte {
	get, verify := b.gets(), b.verifies()
	turns := make([]bool, b.connections)
	return func(connection int, buf []byte) []byte {
		turns[connection] = !turns[connection]
		if turns[connection] {
			return get(connection, buf)
		}
		return verify(connection, buf)
	}
}
