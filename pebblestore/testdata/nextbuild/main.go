//go:build sessiond_next_layout

// Command nextbuild works on a store as the next version of the program would.
// It prints the layout version of the store, and whether the record had the field
// that only the next version writes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], sessiond.ID(os.Args[3])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, op string, id sessiond.ID) (err error) {
	s, err := pebblestore.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	k := sessiond.Key{Tenant: sessiond.DefaultTenant, ID: id}
	switch op {
	case "create":
		_, err = s.Create(ctx, sessiond.Creation{Record: &sessiond.Record{Key: k, Version: 1}, Lifetime: time.Hour})
	case "update":
		_, err = s.Update(ctx, k, func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			r.Version++
			r.UpdatedAt = now
			e := r.Event(sessiond.EventUpdated, sessiond.Actor{}, "")
			return sessiond.Change{Event: &e}, nil
		})
	case "finalize":
		err = s.Finalize(ctx)
	}
	if err != nil {
		return err
	}
	next, err := s.HasNext(k)
	layout, _ := s.Layout()
	fmt.Println(layout, next)
	return err
}
