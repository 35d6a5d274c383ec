-- The last activity of a live session moves to @at (null: the present), never
-- back, never into the future. No column of an index changes.
WITH cur AS MATERIALIZED (
  SELECT s.*
  FROM sessiond.session s
  WHERE s.tenant = @tenant AND s.id = @id
  FOR NO KEY UPDATE
), t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, cur.*
  FROM cur
), new AS (
  UPDATE sessiond.session s
  SET last_active_at = least(@at::bigint, t.now)
  FROM t
  WHERE s.tenant = @tenant AND s.id = @id
    AND (@incarnation::bytea IS NULL OR t.incarnation = @incarnation::bytea)
    AND t.ended_at IS NULL AND t.now < least(t.expires_at, t.last_active_at + nullif(t.idle_timeout, 0))
    AND t.last_active_at < least(@at::bigint, t.now)
  RETURNING s.last_active_at
)
SELECT s.now, (SELECT new.last_active_at FROM new) AS moved, {fields}
FROM t s
