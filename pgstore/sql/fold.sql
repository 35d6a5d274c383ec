-- Adds changes of the counters to them.
WITH lock AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(@lock::bigint) AS got
), gone AS (
  DELETE FROM sessiond.delta d
  WHERE d.ctid = ANY (ARRAY (SELECT f.ctid FROM sessiond.delta f WHERE (SELECT got FROM lock) LIMIT 10000))
  RETURNING d.*
), change AS (
  SELECT 'active' AS kind, g.tenant AS key, g.active AS n FROM gone g
  UNION ALL SELECT 'data_key', g.key_from::text, -1 FROM gone g WHERE g.key_from <> 0
  UNION ALL SELECT 'data_key', g.key_to::text, 1 FROM gone g WHERE g.key_to <> 0
), added AS (
  INSERT INTO sessiond.counter AS c (kind, key, n)
  SELECT change.kind, change.key, sum(change.n)
  FROM change
  GROUP BY change.kind, change.key
  HAVING sum(change.n) <> 0
  ON CONFLICT (kind, key) DO UPDATE SET n = c.n + excluded.n
)
SELECT (SELECT got FROM lock), (SELECT count(*) FROM gone)
