package main

// Moving sessions out of a store and into one, as administration: on a store that
// this process has open, and through the socket of a server that has.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/keyset"
)

// A mover moves sessions.
type mover interface {
	// export writes sessions to w. What was written is whole even when it fails.
	export(context.Context, exportRequest, io.Writer) error
	importFrom(context.Context, io.Reader, importRequest, importReports) (sessiond.ImportResult, error)
}

type exportRequest struct {
	Tenant string      `json:"tenant,omitzero"`
	Open   bool        `json:"open,omitzero"`
	Source string      `json:"source,omitzero"`
	After  sessionName `json:"after,omitzero"`
	Pace   int         `json:"pace,omitzero"`
}

// A sessionName is a session.Key on the wire.
type sessionName struct {
	Tenant string      `json:"tenant"`
	ID     sessiond.ID `json:"id"`
}

type importRequest struct {
	Foreign bool   `json:"foreign,omitzero"`
	Tenant  string `json:"tenant,omitzero"` // of foreign lines that name none
	DryRun  bool   `json:"dry_run,omitzero"`
	Skip    int64  `json:"skip,omitzero"`
	Old     bool   `json:"old,omitzero"`
}

// importReports is who is told of an import under way, one call at a time.
type importReports struct {
	progress func(sessiond.ImportResult)
	failed   func(line int64, text string)
}

func (a *administration) export(ctx context.Context, req exportRequest, w io.Writer) error {
	if !a.copying.TryLock() {
		return errBusy
	}
	defer a.copying.Unlock()
	a.logger.Info("administration", "op", "export", "open", req.Open)
	done, err := a.manager.Export(ctx, w, sessiond.ExportParams{
		Tenant: req.Tenant, Open: req.Open, Source: req.Source,
		WalkParams: sessiond.WalkParams{After: sessiond.Key(req.After), Pace: req.Pace},
	})
	attrs := []any{"op", "export", "seen", done.Seen, "written", done.Changed, "failed", done.Failed}
	if err != nil {
		a.logger.Warn("administration was cut off", append(attrs, "err", err)...)
		return err
	}
	a.logger.Info("administration has ended", attrs...)
	return nil
}

func (a *administration) importFrom(
	ctx context.Context, r io.Reader, req importRequest, told importReports,
) (sessiond.ImportResult, error) {
	if !a.walking.TryLock() {
		return sessiond.ImportResult{}, errBusy
	}
	defer a.walking.Unlock()
	var mu sync.Mutex
	p := sessiond.ImportParams{
		DryRun: req.DryRun, Skip: req.Skip, AcceptOld: req.Old, Header: a.checkKeys,
		Failed: func(line int64, err error) {
			mu.Lock()
			defer mu.Unlock()
			told.failed(line, err.Error())
		},
		Report: func(res sessiond.ImportResult) {
			mu.Lock()
			defer mu.Unlock()
			told.progress(res)
		},
	}
	a.logger.Info("administration", "op", "import", "foreign", req.Foreign, "dry_run", req.DryRun)
	m, do := a.manager.As(sessiond.DefaultTenant, adminActor), (*sessiond.Manager).Import
	if req.Foreign {
		m, do = a.manager.As(req.Tenant, adminActor), (*sessiond.Manager).ImportForeign
	}
	res, err := do(m, ctx, r, p)
	attrs := []any{"op", "import", "lines", res.Lines, "created", res.Created, "updated", res.Updated, "ended", res.Ended,
		"failed", res.Failed}
	if err != nil {
		a.logger.Warn("administration was cut off", append(attrs, "err", err)...)
	} else {
		a.logger.Info("administration has ended", attrs...)
	}
	return res, err
}

// checkKeys refuses an export that could not be opened, before anything of it is
// imported.
func (a *administration) checkKeys(h sessiond.ExportHeader) error {
	enabled := make(map[uint32]bool)
	for _, k := range a.keys.Keyset().Keys() {
		enabled[k.ID] = k.Status == keyset.Enabled
	}
	for _, id := range h.DataKeys {
		if !enabled[id] {
			return fmt.Errorf("the export has data sealed with key %d, which the keyset file lacks: use the keyset file of "+
				"the place that it is from, or export again with --open", id)
		}
	}
	return nil
}

// exportHTTP answers with an export, and cuts the connection when it is cut off.
func (a *administration) exportHTTP(w http.ResponseWriter, r *http.Request) {
	var req exportRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err == nil {
		err = jsonv2.Unmarshal(body, &req, jsonv2.RejectUnknownMembers(true))
	}
	if err != nil {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	counted := &countedWriter{w: w}
	if err := a.export(r.Context(), req, counted); err != nil {
		if counted.n > 0 {
			panic(http.ErrAbortHandler)
		}
		writeFailure(w, err)
	}
}

func (r *remote) export(ctx context.Context, req exportRequest, w io.Writer) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	resp, err := r.send(ctx, "POST", "/export", body)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// An importMessage is one line of the answer to an import: a line of the input
// that failed, progress, or the last one.
type importMessage struct {
	Line   int64                 `json:"line,omitzero"`
	Error  string                `json:"error,omitzero"`
	Result sessiond.ImportResult `json:"result,omitzero"`
	Done   bool                  `json:"done,omitzero"`
}

// importHTTP reads the input while it answers.
func (a *administration) importHTTP(w http.ResponseWriter, r *http.Request) {
	var req importRequest
	err := jsonv2.Unmarshal([]byte(r.URL.Query().Get("request")), &req, jsonv2.RejectUnknownMembers(true))
	if err != nil {
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	control, encoder := http.NewResponseController(w), json.NewEncoder(w)
	if err := control.EnableFullDuplex(); err != nil {
		writeFailure(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	send := func(m importMessage) {
		_ = errors.Join(encoder.Encode(m), control.Flush()) // the context tells when the client is gone
	}
	send(importMessage{})
	last := time.Now()
	res, err := a.importFrom(r.Context(), r.Body, req, importReports{
		progress: func(res sessiond.ImportResult) {
			if time.Since(last) >= reportEvery {
				last = time.Now()
				send(importMessage{Result: res})
			}
		},
		failed: func(line int64, text string) { send(importMessage{Line: line, Error: text}) },
	})
	m := importMessage{Result: res, Done: true}
	if err != nil {
		m.Error = err.Error()
	}
	send(m)
	// The client hangs up when it has read this; before, it may still be sending.
	_, _ = io.Copy(io.Discard, r.Body)
}

func (r *remote) importFrom(
	ctx context.Context, input io.Reader, req importRequest, told importReports,
) (res sessiond.ImportResult, err error) {
	text, err := json.Marshal(req)
	if err != nil {
		return res, err
	}
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	resp, err := r.sendFrom(ctx, "POST", "/import?request="+url.QueryEscape(string(text)), struct{ io.Reader }{input})
	if err != nil {
		return res, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m importMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return res, err
		}
		switch {
		case m.Line > 0:
			told.failed(m.Line, m.Error)
			continue
		case m.Done && m.Error != "":
			return m.Result, errors.New(m.Error)
		case m.Done:
			return m.Result, nil
		}
		res = m.Result
		told.progress(res)
	}
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	return res, errors.Join(errors.New("the server went away before the end"), lines.Err())
}
