package redisstore_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/redisstore"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]redisstore.Target{
		"redis://localhost": {Addrs: []string{"localhost:6379"}},
		"rediss://u:p%40:@[::1]:7000/3?timeout=250ms&prefix=x:": {
			Addrs: []string{"[::1]:7000"}, User: "u", Password: "p@:", DB: 3, TLS: true, Prefix: "x:", Timeout: "250ms", Wait: "125ms",
		},
		"redis://:secret@h:1?wait_replicas=2&wait_timeout=100ms": {
			Addrs: []string{"h:1"}, Password: "secret", Replicas: 2, Wait: "100ms",
		},
		"redis://h?wait_aof=0": {Addrs: []string{"h:6379"}, AOF: true},
		"redis+cluster://a:1,b:2,c": {
			Kind: 1, Addrs: []string{"a:1", "b:2", "c:6379"},
		},
		"rediss+sentinel://u:p@a:1,b/main/4?sentinel_username=su&sentinel_password=sp": {
			Kind: 2, Addrs: []string{"a:1", "b:26379"}, User: "u", Password: "p", Master: "main", DB: 4, TLS: true,
			SentinelUser: "su", SentinelPassword: "sp",
		},
		"redis+sentinel://a/main?db=2": {Kind: 2, Addrs: []string{"a:26379"}, Master: "main", DB: 2},
	} {
		if want.Prefix == "" {
			want.Prefix = "sessiond:"
		}
		if want.Timeout == "" {
			want.Timeout = "3s"
		}
		if want.Wait == "" {
			want.Wait = "1s"
		}
		got, err := redisstore.ParseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
}

var badURLs = []string{
	"", "redis", "localhost:6379", "http://h", "valkey://h", "redis+x://h", "redis+://h", "redis:/h", "redis://",
	"redis://hunter2@", "redis://:hunter2@h:0", "redis://:hunter2@h:x", "redis://:hunter2@h:65536", "redis://:hunter2@h:",
	"redis://:hunter2@a,b", "redis://:hunter2@h/x", "redis://:hunter2@h/-1", "redis://:hunter2@h/1/2",
	"redis://:hunter2@h?hunter2=1", "redis://:hunter2@h?prefix=a&prefix=b", "redis://:hunter2@h?prefix=",
	"redis://:hunter2@h?prefix={x}", "redis://:hunter2@h?timeout=1", "redis://:hunter2@h?timeout=1h",
	"redis://:hunter2@h?timeout=-1s", "redis://:hunter2@h?wait_replicas=-1", "redis://:hunter2@h?wait_replicas=x",
	"redis://:hunter2@h?wait_replicas=1&wait_aof=1", "redis://:hunter2@h?wait_replicas=1&wait_timeout=3s",
	"redis://:hunter2@h?ca_file=x", "rediss://:hunter2@h?cert_file=x", "redis://:hunter2@h?sentinel_password=hunter2",
	"redis+cluster://:hunter2@a,b/1", "redis+cluster://:hunter2@a,,b", "redis+sentinel://:hunter2@a,b",
	"redis://:hunter2%zz@h", "redis://:hunter2@h?%zz=hunter2", "redis://:hunter2@h#x", "redis://:hunter2@::1:1",
	"redis://user:hunter2#@h", "redis://user:hunter2/@h", "redis://user:hunter2?@h",
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, url := range badURLs {
		if _, err := redisstore.Open(t.Context(), url, nil); err == nil {
			t.Errorf("%q is accepted", url)
		} else if strings.Contains(err.Error(), "hunter2") && url != "redis://:hunter2@h?hunter2=1" {
			t.Errorf("%q: the error has the password: %v", url, err)
		}
	}
}

// FuzzURL requires that no URL panics, and that errors don't have the password in them.
func FuzzURL(f *testing.F) {
	for _, url := range badURLs {
		f.Add(url)
	}
	f.Add("rediss+sentinel://u:p@a:1,b/main/4?sentinel_username=su&sentinel_password=sp")
	f.Fuzz(func(t *testing.T, url string) {
		got, err := redisstore.ParseURL(url)
		if err == nil && (len(got.Addrs) == 0 || got.Prefix == "" || strings.ContainsAny(got.Prefix, "{}")) {
			t.Fatalf("%q gives %+v", url, got)
		}
		const password = "S3cretPassw0rd"
		_, rest, ok := strings.Cut(url, "://")
		if !ok {
			return
		}
		_, err = redisstore.ParseURL("redis://:" + password + "@" + rest)
		if err != nil && strings.Contains(err.Error(), password) {
			t.Fatalf("the error has the password: %v", err)
		}
	})
}
