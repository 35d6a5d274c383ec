package pgstore

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
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
	pars []string // in the order of their numbers
}

// clockPars are the parameters of sessiond.clock.
const clockPars = "low skew"

// The statements of a store. See the files for what they do.
var (
	getSQL    = load("get", "get", clockPars+" tenants ids")
	relookSQL = load("get", "relook", clockPars+" tenants ids")
	createSQL = load("create", "create",
		clockPars+recordPars+eventPars+" lifetime created_at updated_at last_active_at expires_at created_sub created_client")
	updateSQL = load("update", "update", clockPars+recordPars+eventPars+" event_at event_subject event_version"+
		" revision moved keep_data updated_at last_active_at expires_at ended_at end_reason end_note ended_sub ended_client")
	touchSQL = load("touch", "touch", clockPars+" tenant id at incarnation")
	eraseSQL = load("erase", "erase", clockPars+" tenant id incarnation revision live event_ats event_versions event_ids"+
		" event_types event_subjects event_reasons event_notes event_subs event_clients event_request_ids")
	subjectLockSQL = load("limit", "subject_lock", "high low_half")
	roomSQL        = load("limit", "room", clockPars+" tenant id subject")
	evictSQL       = load("limit", "evict", clockPars+" tenant subject evict most by_sub by_client request_id")
	expireSQL      = load("sweep", "expire", clockPars+" lock most")
	removeSQL      = load("sweep", "remove", clockPars+" lock most retention")
	trimSQL        = load("sweep", "trim", clockPars+" lock retention keep")
	forgetSQL      = load("sweep", "forget", "lock")
	foldSQL        = load("sweep", "fold", "lock")
	pruneSQL       = load("sweep", "prune", "lock")
	lookSQL        = load("sweep", "look", clockPars+" retention event_retention keep")
	statsSQL       = load("stats", "stats", clockPars)
	scanSQL        = load("scan", "scan", clockPars+" tenant id most")
	eventsSQL      = load("events", "events", "tenant seen running xmax until until_running after most")
	newsSQL        = load("events", "news", "xmax running")
	guaranteeSQL   = load("guarantee", "guarantee", "")
	listSQL        = loadLists()
)

var (
	comment = regexp.MustCompile(`(?m)\s*--.*$`)
	name    = regexp.MustCompile(`@[a-z_]+`)
)

// load reads a file, fills in what several files share, and numbers its parameters
// as pars names them, all that there are.
func load(op, file, pars string, fill ...string) *statement {
	fill = append(fill,
		"{record}", recordColumns, "{fields}", fieldColumns, "{end}", text("end"), "{tell}", text("tell"), "{feed_meta}", text("feed_meta"))
	st := &statement{op: op, name: "sessiond_" + file, pars: strings.Fields(pars)}
	used := make(map[string]bool)
	st.text = name.ReplaceAllStringFunc(strings.NewReplacer(fill...).Replace(text(file)), func(par string) string {
		used[par] = true
		return fmt.Sprintf("$%d", slices.Index(st.pars, par[1:])+1)
	})
	if len(used) != len(st.pars) || strings.Contains(st.text, "$0") {
		panic("pgstore: " + file + ".sql has other parameters than " + pars) // the files are in the program
	}
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
	const pars = clockPars + " tenant labels status from_at expires_before before_at before_id budget most"
	lists := make(map[listKind]*statement)
	for _, subject := range []bool{false, true} {
		by, pars := "", pars
		if subject {
			pars += " subject"
			by = "AND s.subject = @subject AND s.subject <> ''"
		}
		of := func(class string) string {
			return strings.NewReplacer("{subject}", by, "{class}", class).Replace(rows)
		}
		live, ended := of("s.ended_at IS NULL"), of("s.ended_at IS NOT NULL")
		lists[listKind{subject, liveClass}] = load("list", "list", pars, "{rows}", live)
		lists[listKind{subject, endedClass}] = load("list", "list", pars, "{rows}", ended)
		// Both runs have their order and a bound, so that they are merged as they are read.
		const ordered = " ORDER BY created_at DESC, id DESC LIMIT 2001)"
		both := "SELECT * FROM ((" + live + ordered + " UNION ALL (" + ended + ordered + ") u"
		lists[listKind{subject, bothClasses}] = load("list", "list", pars, "{rows}", both)
	}
	for kind, st := range lists {
		st.name = fmt.Sprintf("%s_%t_%d", st.name, kind.subject, kind.class)
	}
	return lists
}
