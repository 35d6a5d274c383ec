package pgstore

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// A statement is SQL with its parameters by name: @name in the file is a number
// in the text.
type statement struct {
	op   string // for errors
	name string // under which connections prepare it
	text string
	pars []string
}

// args are the values of a statement's parameters.
type args map[string]any

// list is the values in the order of the statement's numbers.
func (st *statement) list(a args) []any {
	values := make([]any, len(st.pars))
	for i, p := range st.pars {
		v, ok := a[p]
		if !ok {
			panic("pgstore: statement " + st.op + " lacks parameter " + p)
		}
		values[i] = v
	}
	return values
}

// The statements of a store. See the files for what they do.
var (
	getSQL         = load("get", "get")
	relookSQL      = load("get", "relook")
	createSQL      = load("create", "create")
	updateSQL      = load("update", "update")
	touchSQL       = load("touch", "touch")
	eraseSQL       = load("erase", "erase")
	subjectLockSQL = load("limit", "subject_lock")
	roomSQL        = load("limit", "room")
	evictSQL       = load("limit", "evict")
	expireSQL      = load("sweep", "expire")
	removeSQL      = load("sweep", "remove")
	trimSQL        = load("sweep", "trim")
	forgetSQL      = load("sweep", "forget")
	foldSQL        = load("sweep", "fold")
	pruneSQL       = load("sweep", "prune")
	lookSQL        = load("sweep", "look")
	statsSQL       = load("stats", "stats")
	scanSQL        = load("scan", "scan")
	eventsSQL      = load("events", "events")
	newsSQL        = load("events", "news")
	guaranteeSQL   = load("guarantee", "guarantee")
	listSQL        = loadLists()
)

var (
	comment = regexp.MustCompile(`(?m)\s*--.*$`)
	name    = regexp.MustCompile(`@[a-z_]+`)
)

// load reads a file, fills in what several files share, and numbers its parameters.
func load(op, file string, fill ...string) *statement {
	fill = append(fill,
		"{record}", recordColumns, "{end}", text("end"), "{tell}", text("tell"), "{feed_meta}", text("feed_meta"))
	st := &statement{op: op, name: "sessiond_" + file, text: strings.NewReplacer(fill...).Replace(text(file))}
	numbers := make(map[string]string)
	st.text = name.ReplaceAllStringFunc(st.text, func(par string) string {
		if numbers[par] == "" {
			st.pars = append(st.pars, par[1:])
			numbers[par] = fmt.Sprintf("$%d", len(st.pars))
		}
		return numbers[par]
	})
	return st
}

// text is a file without its comments.
func text(file string) string {
	b, err := sqlFiles.ReadFile("sql/" + file + ".sql")
	if err != nil {
		panic(err) // the files are in the program
	}
	return strings.TrimSpace(comment.ReplaceAllString(string(b), ""))
}

// A class is a part of the records that has indexes of its own.
type class int

const (
	liveClass  class = iota // not written down as ended
	endedClass              // the others
	bothClasses
)

// A listKind selects the list statement that uses the right indexes.
type listKind struct {
	subject bool
	class   class
}

func loadLists() map[listKind]*statement {
	rows := text("list_rows")
	lists := make(map[listKind]*statement)
	for _, subject := range []bool{false, true} {
		by := ""
		if subject {
			by = "AND s.subject = @subject AND s.subject <> ''"
		}
		of := func(class string) string {
			return strings.NewReplacer("{subject}", by, "{class}", class).Replace(rows)
		}
		live, ended := of("s.ended_at IS NULL"), of("s.ended_at IS NOT NULL")
		lists[listKind{subject, liveClass}] = load("list", "list", "{rows}", live)
		lists[listKind{subject, endedClass}] = load("list", "list", "{rows}", ended)
		// Both runs have their order and a bound, so that they are merged as they are read.
		const ordered = " ORDER BY created_at DESC, id DESC LIMIT 2001)"
		both := "SELECT * FROM ((" + live + ordered + " UNION ALL (" + ended + ordered + ") u"
		lists[listKind{subject, bothClasses}] = load("list", "list", "{rows}", both)
	}
	for kind, st := range lists {
		st.name = fmt.Sprintf("%s_%t_%d", st.name, kind.subject, kind.class)
	}
	return lists
}
