package redisstore

import "context"

// PruneFresh does to the index of a subject what an impatient reader does: it
// removes the pending entries without a record, however young they are.
func (s *Store) PruneFresh(ctx context.Context, tenant, subject string) error {
	page, err := s.readIndex(ctx, tenant, subject, "-", "-", 1)
	if err != nil {
		return err
	}
	_, fixes, err := s.verify(ctx, subject, page.now+pruneAfter+1, page.pending)
	if err != nil {
		return err
	}
	s.fix(ctx, tenant, subject, fixes)
	return nil
}
