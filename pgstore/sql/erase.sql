-- A record goes, with its last events, if it has not changed since it was read
-- and is still live, or not, as it was then.
WITH cur AS MATERIALIZED (
  SELECT s.expires_at, s.last_active_at, s.idle_timeout, s.data_key, s.ended_at
  FROM sessiond.session s
  WHERE s.tenant = @tenant AND s.id = @id AND s.incarnation = @incarnation::bytea AND s.revision = @revision::bigint
  FOR UPDATE
), t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, cur.*
  FROM cur
), gone AS (
  DELETE FROM sessiond.session s
  USING t
  WHERE s.tenant = @tenant AND s.id = @id AND @live::boolean =
    (t.ended_at IS NULL AND t.now < least(t.expires_at, t.last_active_at + nullif(t.idle_timeout, 0)))
  RETURNING s.tenant, s.id, t.now, t.ended_at, t.data_key
), told AS (
  INSERT INTO sessiond.event (
    told_at, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id)
  SELECT gone.now, gone.tenant, gone.id, e.id, e.type, e.at, e.subject, e.version, e.reason, e.note,
    e.sub, e.client, e.request_id
  FROM gone, unnest(@event_ids::text[], @event_types::text[], @event_ats::bigint[], @event_subjects::text[],
    @event_versions::bigint[], @event_reasons::text[], @event_notes::text[], @event_subs::text[],
    @event_clients::text[], @event_request_ids::text[]) WITH ORDINALITY
    AS e (id, type, at, subject, version, reason, note, sub, client, request_id, n)
  ORDER BY e.n
), counted AS (
  INSERT INTO sessiond.delta (tenant, active, key_from, key_to)
  SELECT gone.tenant, CASE WHEN gone.ended_at IS NULL THEN -1 ELSE 0 END, gone.data_key, 0
  FROM gone
  WHERE gone.ended_at IS NULL OR gone.data_key <> 0
)
SELECT gone.now
FROM gone
