-- Forgets all but the newest 10,000 transactions whose events were trimmed.
WITH lock AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(@lock::bigint) AS got
), edge AS MATERIALIZED (
  SELECT t.txid
  FROM sessiond.trimmed t
  WHERE (SELECT got FROM lock)
  ORDER BY t.txid DESC
  OFFSET 10000
  LIMIT 1
), gone AS (
  DELETE FROM sessiond.trimmed t
  WHERE t.txid <= (SELECT edge.txid FROM edge)
)
UPDATE sessiond.meta m
SET forgotten_txid = edge.txid
FROM edge
