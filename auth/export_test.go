package auth

import "slices"

// Cached returns the number of credentials in the verifier's cache.
func (v *Verifier) Cached() int {
	n := 0
	for i := range v.cache.shards {
		s := &v.cache.shards[i]
		s.mu.RLock()
		n += len(s.entries)
		s.mu.RUnlock()
	}
	return n
}

// ParseKeySet returns the kids of the usable keys of a key set document.
func ParseKeySet(body []byte) ([]string, error) {
	keys, _, err := parseKeySet(body)
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.id)
	}
	return ids, err
}

// PermissionNames are the names of all permissions in order.
func PermissionNames() []string { return slices.Clone(permissionNames[:]) }

// DemandCoolDown is the pause between two loads for the sake of unknown keys.
const DemandCoolDown = demandCoolDown
