package redisstore_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/storetest"
)

// BenchmarkReads measures Get beside one plain GET for each page over a pool of connections.
//
//	go test ./redisstore -run '^$' -bench Reads/.*/64
func BenchmarkReads(b *testing.B) {
	server := testserver.SharedRedis(b)
	storetest.BenchReads(b, open(b, withPrefix(server.URL()), nil), pages(b, server))
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
	for i := range storetest.BenchPages {
		do(b, server, "SET", fmt.Sprintf("%s%011d", prefix, i), string(make([]byte, storetest.BenchPageSize)))
	}
	return func(i int) error {
		c := <-free
		defer func() { free <- c }()
		value, err := c.get(fmt.Sprintf("%s%011d", prefix, i))
		if err == nil && len(value) != storetest.BenchPageSize {
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
