package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"sessiond.example/sessiond/api"
)

// readBody reads the request's body as far as the limit allows. Whatever Content-Length says, no more is read.
func (c *call) readBody(kind bodyKind) error {
	r := c.r
	if kind == anyBody || r.ContentLength == 0 && (kind == noBody || kind == optionalJSON) {
		return nil
	}
	if kind == noBody {
		return c.refuseBody()
	}
	if len(r.Header["Content-Encoding"]) > 0 {
		return refuse(api.CodeMediaType, "a body must not have a content coding")
	}
	if r.ContentLength > c.cfg.MaxBody {
		return c.tooLarge()
	}
	if kind != optionalJSON {
		if err := c.checkMediaType(kind); err != nil {
			return err
		}
	}
	body, err := c.readAll()
	if err != nil {
		return err
	}
	if kind == optionalJSON && len(body) > 0 {
		if err := c.checkMediaType(kind); err != nil {
			return err
		}
	}
	c.body = body
	return nil
}

// refuseBody refuses a body where none has a meaning: what a client says there would be lost on us. A body of unknown
// length may turn out to be empty.
func (c *call) refuseBody() error {
	if c.r.ContentLength < 0 {
		var first [1]byte
		if n, err := io.ReadFull(c.r.Body, first[:]); n == 0 && err == io.EOF {
			return nil
		}
	}
	return malformed("there must be no body here")
}

func (c *call) tooLarge() error {
	// What has not been read would have to be skipped.
	c.set("Connection", "close")
	return refuse(api.CodeBodyTooLarge, "the body is too large")
}

func (c *call) readAll() (body []byte, err error) {
	if n := c.r.ContentLength; n > 0 { // and within the limit
		body = make([]byte, n)
		_, err = io.ReadFull(c.r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, c.cfg.MaxBody))
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, c.tooLarge()
		}
	}
	if err != nil {
		c.set("Connection", "close")
		return nil, malformed("the body could not be read to its end")
	}
	return body, nil
}

var mediaTypes = map[bodyKind]string{
	jsonBody: api.MediaJSON, optionalJSON: api.MediaJSON, patchBody: api.MediaMergePatch, formBody: api.MediaForm,
}

// checkMediaType refuses bodies of another media type. The only parameter that may be there is charset, and UTF-8 its
// only value.
func (c *call) checkMediaType(kind bodyKind) error {
	want := mediaTypes[kind]
	values := c.r.Header["Content-Type"]
	if len(values) == 1 && (values[0] == want || isMediaType(values[0], want)) {
		return nil
	}
	err := refuse(api.CodeMediaType, "the body must be "+want+" in UTF-8")
	if kind == patchBody {
		err = err.with("Accept-Patch", want) // RFC 5789 section 2.2
	}
	return err
}

func isMediaType(value, want string) bool {
	got, params, err := mime.ParseMediaType(value)
	if err != nil || got != want {
		return false
	}
	for name, v := range params {
		if name != "charset" || !strings.EqualFold(v, "utf-8") {
			return false
		}
	}
	return true
}
