-- Removes up to @most records that ended longer than @retention ago.
WITH lock AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(@lock::bigint) AS got
), old AS MATERIALIZED (
  SELECT s.tenant, s.id, row_number() OVER () AS n
  FROM (
    SELECT s.tenant, s.id
    FROM sessiond.session s
    WHERE (SELECT got FROM lock) AND s.ended_at IS NOT NULL
      AND s.ended_at <= (SELECT sessiond.clock(@low::bigint, @skew::bigint)) - @retention::bigint
    ORDER BY s.ended_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
  ) s
), gone AS (
  DELETE FROM sessiond.session s
  USING old
  WHERE s.tenant = old.tenant AND s.id = old.id AND old.n <= @most::bigint
  RETURNING s.tenant
)
SELECT (SELECT got FROM lock), (SELECT count(*) FROM gone)
