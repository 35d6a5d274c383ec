package sessiond

// MergePatch is the merge of RFC 7396 without sessions around it.
var MergePatch = mergePatch

// LimitTouchQueue makes the queue of touches smaller than 10,000. It is called
// before the first touch.
func LimitTouchQueue(m *Manager, n int) { m.touches.ch = make(chan touch, n) }
