package config

// The value types that YAML does not have: sizes, claim paths, and the short form of durations.

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads a size: decimal digits, without sign, leading zeros or spaces, alone (bytes) or followed at once by
// KiB, MiB or GiB. What does not fit into an int64 is an error.
func ParseSize(s string) (Size, error) {
	digits, unit := s, int64(1)
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, unit = number, u.bytes
			break
		}
	}
	n, err := parseDigits(digits)
	if err != nil {
		return 0, fmt.Errorf("%s is not a size: write whole bytes or use KiB, MiB or GiB, as in 64KiB", quote(s))
	}
	if n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%s is too large", quote(s))
	}
	return Size(n * unit), nil
}

// String returns the form that ParseSize reads, in the largest unit that is exact.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parseDigits reads a non-negative decimal number in its only spelling.
func parseDigits(s string) (int64, error) {
	if s == "" || (s[0] == '0' && s != "0") || strings.Trim(s, "0123456789") != "" {
		return 0, errors.New("not a whole number")
	}
	return strconv.ParseInt(s, 10, 64)
}

// ClaimPath leads through nested objects of a token's claims: one member name per step. A nil path is none.
type ClaimPath []string

// ParseClaimPath splits the dotted form. A string with "://" in it is one name, as namespaced claims are named by URLs;
// other names with dots have no dotted form.
func ParseClaimPath(s string) (ClaimPath, error) {
	path := ClaimPath{s}
	if !strings.Contains(s, "://") {
		path = strings.Split(s, ".")
	}
	if err := path.check(); err != nil {
		return nil, err
	}
	return path, nil
}

// dotted is the inverse of ParseClaimPath, for the paths that have one.
func (p ClaimPath) dotted() (string, bool) {
	s := strings.Join(p, ".")
	back, err := ParseClaimPath(s)
	return s, err == nil && slices.Equal(back, p)
}

func (p ClaimPath) check() error {
	if len(p) == 0 || len(p) > 16 {
		return errors.New("a claim path has 1 to 16 names")
	}
	for _, name := range p {
		if name == "" {
			return errors.New("a claim path has no empty names")
		}
	}
	return nil
}

// formatDuration is Duration.String without its zero units: 12h rather than 12h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// quote shows a refused value, shortened so that a message stays readable.
func quote(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "..."
	}
	return strconv.Quote(s)
}
