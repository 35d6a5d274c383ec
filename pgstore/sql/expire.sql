-- Ends up to @most sessions whose deadline has passed, of the hundred first that
-- the index names; files those again whose deadline has moved. Another sweeper's
-- turn gives got = false, a row that a writer has is left for the next pass.
WITH lock AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(@lock::bigint) AS got
), due AS MATERIALIZED (
  SELECT s.tenant, s.id, s.filed_at, s.expires_at, s.last_active_at, s.idle_timeout, s.data_key
  FROM sessiond.session s
  WHERE (SELECT got FROM lock) AND s.ended_at IS NULL
    AND s.filed_at <= (SELECT sessiond.clock(@low::bigint, @skew::bigint))
  ORDER BY s.filed_at
  LIMIT 100
  FOR NO KEY UPDATE SKIP LOCKED
), t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, due.*,
    least(due.expires_at, due.last_active_at + nullif(due.idle_timeout, 0)) AS deadline
  FROM due
), first AS MATERIALIZED (
  SELECT t.*, row_number() OVER (ORDER BY t.deadline, t.tenant, t.id) AS n
  FROM t
  WHERE t.deadline <= t.now
), filed AS (
  UPDATE sessiond.session s
  SET filed_at = t.deadline
  FROM t
  WHERE s.tenant = t.tenant AND s.id = t.id AND t.deadline > t.now
), over AS (
  UPDATE sessiond.session s
  SET {end}, ended_at = f.deadline, updated_at = f.deadline,
    end_reason = CASE WHEN f.deadline < f.expires_at THEN 'idle' ELSE 'absolute' END,
    ended_sub = '', ended_client = ''
  FROM first f
  WHERE s.tenant = f.tenant AND s.id = f.id AND f.n <= @most::bigint
  RETURNING s.*, f.now, f.data_key AS key_from, 'session.expired'::text AS type, ''::text AS request_id
), {tell}
SELECT (SELECT got FROM lock), (SELECT count(*) FROM due),
  (SELECT count(*) FROM over WHERE end_reason = 'idle'), (SELECT count(*) FROM over WHERE end_reason = 'absolute')
