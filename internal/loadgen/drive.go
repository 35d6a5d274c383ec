package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A visit is requests to one address for a while. next gives the bytes of the
// following request of a connection; it may reuse buf.
type visit struct {
	address string
	status  string // the only status that counts as success, such as "200"
	next    func(connection int, buf []byte) []byte
}

// A measurement is what one visit gave.
type measurement struct {
	rate     float64 // requests a second
	p50, p99 float64 // microseconds
}

// drive keeps every connection busy with one request at a time. The client is
// as thin as it can be, because it shares the machine with the server.
func drive(ctx context.Context, s settings, v visit) (measurement, error) {
	const warmup = 200 * time.Millisecond
	start := time.Now().Add(warmup)
	end := start.Add(s.visit)
	histograms := make([]*hdrhistogram.Histogram, s.connections)
	errs := make([]error, s.connections)
	var wg sync.WaitGroup
	for i := range s.connections {
		histograms[i] = hdrhistogram.New(1, 10_000_000, 3)
		wg.Go(func() { errs[i] = driveOne(ctx, i, v, start, end, histograms[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return measurement{}, err
	}
	all := hdrhistogram.New(1, 10_000_000, 3)
	for _, h := range histograms {
		all.Merge(h)
	}
	return measurement{
		rate: float64(all.TotalCount()) / s.visit.Seconds(),
		p50:  float64(all.ValueAtQuantile(50)),
		p99:  float64(all.ValueAtQuantile(99)),
	}, nil
}

func driveOne(ctx context.Context, n int, v visit, start, end time.Time, h *hdrhistogram.Histogram) error {
	conn, err := net.Dial("tcp", v.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(end.Add(10 * time.Second)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 16<<10)
	var buf []byte
	for ctx.Err() == nil {
		began := time.Now()
		if began.After(end) {
			return nil
		}
		buf = v.next(n, buf[:0])
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		if err := readAnswer(in, v.status); err != nil {
			return err
		}
		if began.After(start) {
			if err := h.RecordValue(time.Since(began).Microseconds()); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

var contentLength = []byte("Content-Length: ")

// readAnswer reads one HTTP/1.1 answer with a Content-Length.
func readAnswer(in *bufio.Reader, status string) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 || string(line[9:12]) != status {
		return fmt.Errorf("answered %q instead of %s", bytes.TrimSpace(line), status)
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, contentLength); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without Content-Length")
	}
	_, err = io.CopyN(io.Discard, in, int64(length))
	return err
}
