-- Counts the live sessions of a subject, exactly, and ends the oldest of them until
-- one more fits below @most, if @evict.
WITH cur AS MATERIALIZED (
  SELECT s.tenant, s.id, s.created_at, s.expires_at, s.last_active_at, s.idle_timeout, s.data_key
  FROM sessiond.session s
  WHERE s.tenant = @tenant AND s.subject = @subject AND s.subject <> '' AND s.ended_at IS NULL
  ORDER BY s.created_at DESC, s.id DESC
  FOR NO KEY UPDATE
), t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, cur.*
  FROM cur
), live AS MATERIALIZED (
  SELECT t.*, row_number() OVER (ORDER BY t.created_at DESC, t.id DESC) AS n
  FROM t
  WHERE t.now < least(t.expires_at, t.last_active_at + nullif(t.idle_timeout, 0))
), over AS (
  UPDATE sessiond.session s
  SET {end}, ended_at = l.now, updated_at = l.now, end_reason = 'limit',
    ended_sub = @by_sub, ended_client = @by_client
  FROM live l
  WHERE s.tenant = l.tenant AND s.id = l.id AND @evict::boolean AND l.n >= @most::bigint
  RETURNING s.*, l.now, l.data_key AS key_from, 'session.revoked'::text AS type, @request_id::text AS request_id
), {tell}
SELECT (SELECT count(*) FROM live), (SELECT count(*) FROM over)
