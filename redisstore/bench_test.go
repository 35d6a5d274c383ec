package redisstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// BenchmarkCalls measures calls from one caller and from 64 at the same time. Page is
// what an application pays that keeps its sessions in Redis by itself, one plain GET for
// each page over a pool of connections: the measure for Get.
//
//	go test ./redisstore -run '^$' -bench Calls/.*/64
func BenchmarkCalls(b *testing.B) {
	server := testserver.SharedRedis(b)
	s := open(b, withPrefix(server.URL()), nil)
	page := pages(b, server)
	const sessions = 10_000
	name := func(i int) string { return fmt.Sprintf("01980000-0000-7000-8000-%012d", i) }
	inParallel(b, 64, sessions, func(i int) error { return largeSession(s, name(i)) })
	var created atomic.Int64
	hot := func(int) int { return 0 }
	random := func(int) int { return rand.IntN(sessions) }
	for _, bb := range []struct {
		name string
		do   func(which int) error
		pick func(i int) int
	}{
		{"Page/hot", page, hot},
		{"Get/hot", func(i int) error { return getOnce(s, name(i)) }, hot},
		{"Page/random", page, random},
		{"Get/random", func(i int) error { return getOnce(s, name(i)) }, random},
		{"Create", func(int) error { return largeSession(s, fmt.Sprint("new-", created.Add(1))) }, hot},
		{"Update", func(i int) error {
			_, err := s.Update(context.Background(), key(name(i)), bump)
			return err
		}, random},
		{"Touch", func(i int) error {
			_, err := s.Touch(context.Background(), key(name(i)), sessiond.Incarnation{}, time.Time{})
			return err
		}, random},
	} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", bb.name, callers), func(b *testing.B) {
				b.ReportAllocs()
				inParallel(b, callers, b.N, func(i int) error { return bb.do(bb.pick(i)) })
			})
		}
	}
}

// inParallel calls fn for 0 to n-1 from several callers.
func inParallel(b *testing.B, callers, n int, fn func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// dataSize is the size of a session's data, in bytes.
const dataSize = 400

func largeSession(s *redisstore.Store, id string) error {
	c := session(id, "")
	c.Record.Data = make([]byte, dataSize)
	_, err := s.Create(context.Background(), c)
	return err
}

// getOnce reads with a context that can end, as that of a request.
func getOnce(s *redisstore.Store, id string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := s.Get(ctx, key(id))
	return err
}

// A plainConn is a connection that asks and waits for the answer.
type plainConn struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

// pages gives a function that reads one plain value over one of 64 connections.
func pages(b *testing.B, server *testserver.Redis) func(i int) error {
	prefix := prefixOf(withPrefix("")) + "token-of-forty-three-characters-"
	free := make(chan *plainConn, 64)
	for range cap(free) {
		c, err := net.Dial("tcp", server.Addr())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		free <- &plainConn{c, bufio.NewReader(c), bufio.NewWriter(c)}
	}
	for i := range 10_000 {
		do(b, server, "SET", fmt.Sprintf("%s%011d", prefix, i), string(make([]byte, dataSize)))
	}
	return func(i int) error {
		c := <-free
		defer func() { free <- c }()
		value, err := c.get(fmt.Sprintf("%s%011d", prefix, i))
		if err == nil && len(value) != dataSize {
			err = fmt.Errorf("%d bytes", len(value))
		}
		return err
	}
}

func (c *plainConn) get(key string) ([]byte, error) {
	fmt.Fprintf(c.w, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	head, err := c.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(head[1 : len(head)-2])
	if err != nil || head[0] != '$' {
		return nil, fmt.Errorf("answer %q", head)
	}
	value := make([]byte, n+2)
	_, err = io.ReadFull(c.r, value)
	return value[:n], err
}
