package sessiond_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
)

// A session's life: create, update, get, list, revoke.
func Example() {
	ctx := context.Background()
	store := memstore.New(memstore.Options{})
	defer store.Close()
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: sessiond.NoSealing{}})
	if err != nil {
		log.Fatal(err)
	}

	s, token, err := m.Create(ctx, sessiond.CreateParams{
		ID:        "session-001",
		Subject:   "alice",
		Data:      jsontext.Value(`{"cart":["apple"]}`),
		ExpiresIn: new(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created", s.ID, "version", s.Version)
	fmt.Println("the token prints as", token)

	s, err = m.Update(ctx, s.ID, sessiond.UpdateParams{
		Data:    jsontext.Value(`{"cart":["apple","pear"]}`),
		IfMatch: []sessiond.ETag{s.ETag},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("updated to version", s.Version)

	s, err = m.Get(ctx, "session-001")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("got", string(s.Data))

	page, err := m.List(ctx, sessiond.ListParams{
		Filter: sessiond.Filter{ActiveOnly: true},
		Limit:  50,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("active:", len(page.Sessions))

	if err := m.Revoke(ctx, s.ID, sessiond.RevokeParams{Reason: sessiond.EndLogout}); err != nil {
		log.Fatal(err)
	}
	_, err = m.Get(ctx, "session-001")
	var ended *sessiond.EndedError
	if errors.As(err, &ended) {
		fmt.Println("ended by", ended.Session.EndReason)
	}

	// Output:
	// created session-001 version 1
	// the token prints as sst_[redacted]
	// updated to version 2
	// got {"cart":["apple","pear"]}
	// active: 1
	// ended by logout
}
