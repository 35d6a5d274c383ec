-- Forgets the oldest events, up to a bound: those from before the retention, and
-- all but the newest @keep numbers. What is left has no hole.
WITH lock AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(@lock::bigint) AS got
), old AS MATERIALIZED (
  SELECT e.ord, e.txid,
    e.told_at < (SELECT sessiond.clock(@low::bigint, @skew::bigint)) - @retention::bigint
      OR e.ord <= (SELECT n.ord FROM sessiond.event n ORDER BY n.ord DESC LIMIT 1) - @keep::bigint AS over
  FROM sessiond.event e
  WHERE (SELECT got FROM lock)
  ORDER BY e.ord
  LIMIT 5000
), doomed AS MATERIALIZED (
  SELECT old.ord, old.txid
  FROM old
  WHERE old.over AND old.ord < coalesce((SELECT min(k.ord) FROM old k WHERE NOT k.over), 9223372036854775807)
), gone AS (
  DELETE FROM sessiond.event e
  WHERE e.ord >= (SELECT min(d.ord) FROM doomed d) AND e.ord <= (SELECT max(d.ord) FROM doomed d)
  RETURNING e.ord
), remembered AS (
  INSERT INTO sessiond.trimmed (txid)
  SELECT DISTINCT doomed.txid
  FROM doomed
  ON CONFLICT DO NOTHING
), noted AS (
  UPDATE sessiond.meta m
  SET trimmed_ord = greatest(m.trimmed_ord, l.ord), trimmed_txid = greatest(m.trimmed_txid, l.txid)
  FROM (
    SELECT (SELECT max(d.ord) FROM doomed d) AS ord, d.txid
    FROM doomed d
    ORDER BY d.txid DESC
    LIMIT 1
  ) l
)
SELECT (SELECT got FROM lock), (SELECT count(*) FROM gone)
