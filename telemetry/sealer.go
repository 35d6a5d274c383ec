package telemetry

import "sessiond.example/sessiond"

// Sealer wraps s so that data which can't be opened is counted. It changes
// nothing that s answers.
func (m *Metrics) Sealer(s sessiond.Sealer) sessiond.Sealer { return sealer{s, m} }

// A sealer is a Sealer seen through its metrics. Seal passes through.
type sealer struct {
	sessiond.Sealer
	m *Metrics
}

// Open implements [sessiond.Sealer].
func (s sealer) Open(ciphertext, associatedData []byte) ([]byte, error) {
	data, err := s.Sealer.Open(ciphertext, associatedData)
	if err != nil {
		s.m.openFailures.Inc()
	}
	return data, err
}
