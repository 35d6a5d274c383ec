// Command scs is the small application that "make bench" compares with: pages
// behind sessions of github.com/alexedwards/scs, kept in Redis or PostgreSQL,
// which is what a Go program has without a session service.
//
// It is a module of its own, so that nobody else gets what it needs.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/redisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/gomodule/redigo/redis"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "loopback address to serve on")
	url := flag.String("store", "", "URL of a Redis or PostgreSQL")
	pool := flag.Int("pool", 64, "connections to Redis at most; for PostgreSQL see pool_max_conns in the URL")
	flag.Parse()
	if err := serve(*listen, *url, *pool); err != nil {
		fmt.Fprintln(os.Stderr, "scs:", err)
		os.Exit(1)
	}
}

func serve(listen, url string, pool int) error {
	sessions := scs.New()
	sessions.Lifetime = 12 * time.Hour
	if strings.HasPrefix(url, "postgres") {
		db, err := pgxpool.New(context.Background(), url)
		if err != nil {
			return err
		}
		_, err = db.Exec(context.Background(), `CREATE TABLE IF NOT EXISTS sessions (
			token TEXT PRIMARY KEY, data BYTEA NOT NULL, expiry TIMESTAMPTZ NOT NULL);
			CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions (expiry)`)
		if err != nil {
			return err
		}
		sessions.Store = pgxstore.New(db)
	} else {
		sessions.Store = redisstore.New(&redis.Pool{
			MaxIdle: pool, MaxActive: pool, Wait: true,
			Dial: func() (redis.Conn, error) { return redis.DialURL(url) },
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) { login(sessions, w, r) })
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) { page(sessions, w, r) })
	return http.ListenAndServe(listen, sessions.LoadAndSave(mux))
}

// login keeps the body, a JSON object, in a new session.
func login(sessions *scs.SessionManager, w http.ResponseWriter, r *http.Request) {
	var data json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&data); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sessions.Put(r.Context(), "data", string(data))
	w.WriteHeader(http.StatusNoContent)
}

// page shows what the session keeps.
func page(sessions *scs.SessionManager, w http.ResponseWriter, r *http.Request) {
	data := sessions.GetString(r.Context(), "data")
	if data == "" {
		http.Error(w, "signed out", http.StatusUnauthorized)
		return
	}
	body, err := json.Marshal(struct {
		Data json.RawMessage `json:"data"`
	}{json.RawMessage(data)})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // a client that is gone needs no answer
}
