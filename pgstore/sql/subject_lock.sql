-- Writes that count against the limit of one subject come one after the other.
SELECT pg_advisory_xact_lock(@high::int, @low_half::int)
