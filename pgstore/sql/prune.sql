-- Forgets counters of tenants and keys that have nothing.
WITH lock AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(@lock::bigint) AS got
)
DELETE FROM sessiond.counter c
WHERE (SELECT got FROM lock) AND c.n = 0
