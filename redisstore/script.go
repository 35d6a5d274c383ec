package redisstore

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
)

//go:embed lua/*.lua
var sources embed.FS

// A script is a Lua script with the parts that it shares with others.
type script struct {
	name  string
	text  string
	sha   string // by which the server knows it
	write bool   // it can change something: its outcome matters
}

// The flags of scripts. Redis checks them before it runs a script: one that writes is
// refused on a replica, when the server can't persist, and, without allow-oom, when memory
// is full. So a script never fails between two of its writes for one of these reasons.
const (
	reads     = "no-writes"
	grows     = ""          // refused when memory is full
	goesOnOOM = "allow-oom" // ends and removes; a touch changes a number
)

var (
	readScript    = newScript("read", reads)
	touchScript   = newScript("touch", goesOnOOM, "clock", "head")
	createScript  = newScript("create", grows, "clock", "head", "feed")
	changeScript  = newScript("change", grows, "clock", "head", "feed")
	endScript     = newScript("change", goesOnOOM, "clock", "head", "feed")
	placesScript  = newScript("places", reads)
	membersScript = newScript("members", reads)
	indexScript   = newScript("index", reads)
	reserveScript = newScript("reserve", grows)
	settleScript  = newScript("settle", goesOnOOM)
	statsScript   = newScript("stats", reads, "clock")
	peekScript    = newScript("peek", reads, "clock")
	refileScript  = newScript("refile", goesOnOOM, "head")
	oldestScript  = newScript("oldest", reads)
	trimScript    = newScript("trim", goesOnOOM)
	clockScript   = newScript("keepclock", goesOnOOM, "clock")
	leaseScript   = newScript("lease", goesOnOOM)
	foundScript   = newScript("found", grows)
)

// newScript puts a script together: flags, parts, and the file of its name.
func newScript(name, flags string, parts ...string) *script {
	var b strings.Builder
	b.WriteString("#!lua flags=" + flags + "\n")
	for _, part := range append(parts, name) {
		source, err := sources.ReadFile("lua/" + part + ".lua")
		if err != nil {
			panic(fmt.Sprintf("redisstore: script %s: %v", name, err)) // embedded, so it is there
		}
		b.Write(source)
	}
	sum := sha1.Sum([]byte(b.String()))
	return &script{name: name, text: b.String(), sha: hex.EncodeToString(sum[:]), write: flags != reads}
}
