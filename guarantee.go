package sessiond

// A Guarantee tells what a store keeps of the writes that it has acknowledged,
// as far as it could verify that with the settings that its engine runs under.
// Stores that know theirs have a method
//
//	Guarantee(ctx context.Context) (sessiond.Guarantee, error)
//
// which asks the engine anew with every call.
type Guarantee struct {
	Class Durability
	// Findings are the settings that made the class what it is and could be
	// better, one sentence each, for people. Empty when there is nothing to say.
	Findings []string
}

// Durability is the class of a [Guarantee].
type Durability string

// The classes, from weakest to strongest.
const (
	Unverified Durability = "unverified"  // the engine hides its settings
	Ephemeral  Durability = "ephemeral"   // sessions end with the process that keeps them
	BestEffort Durability = "best-effort" // a crash or a failover may undo the latest writes, revocations too
	Durable    Durability = "durable"     // a crash or a power failure of the machine undoes nothing
	Replicated Durability = "replicated"  // and neither does the loss of the machine
)

// AtLeast reports whether d is as strong as o, or stronger.
func (d Durability) AtLeast(o Durability) bool { return d.rank() >= o.rank() }

func (d Durability) rank() int {
	switch d {
	case Unverified:
		return 0
	case Ephemeral:
		return 1
	case BestEffort:
		return 2
	case Durable:
		return 3
	case Replicated:
		return 4
	}
	return -1
}

// Valid reports whether d is one of the classes.
func (d Durability) Valid() bool { return d.rank() >= 0 }
