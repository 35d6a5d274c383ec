-- A changed record with its event, if the session is live when its row is
-- locked, and has not changed since it was read. @moved is null or the last
-- activity that the change relies on.
WITH cur AS MATERIALIZED (
  SELECT s.expires_at, s.last_active_at, s.idle_timeout, s.data_key
  FROM sessiond.session s
  WHERE s.tenant = @tenant AND s.id = @id AND s.incarnation = @incarnation::bytea AND s.revision = @revision::bigint
    AND s.ended_at IS NULL AND (@moved::bigint IS NULL OR s.last_active_at = @moved::bigint)
  FOR NO KEY UPDATE
), t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, cur.*
  FROM cur
), new AS (
  UPDATE sessiond.session s
  SET revision = s.revision + 1, version = @version::bigint, subject = @subject, labels = @labels::jsonb,
    data = CASE WHEN @keep_data::boolean THEN s.data ELSE @data::bytea END, data_key = @data_key::bigint,
    updated_at = @updated_at::bigint, last_active_at = greatest(s.last_active_at, @last_active_at::bigint),
    expires_at = @expires_at::bigint, idle_timeout = @idle_timeout::bigint,
    token_hash = @token_hash::bytea, previous_token_hash = @previous_token_hash::bytea,
    previous_token_until = @previous_token_until::bigint, create_hash = @create_hash::bytea,
    ended_at = @ended_at::bigint, end_reason = @end_reason, end_note = @end_note,
    ended_sub = @ended_sub, ended_client = @ended_client,
    -- A time that is too early is found and corrected by the sweeper; while it stays, no index changes.
    filed_at = least(s.filed_at, @expires_at::bigint,
      greatest(s.last_active_at, @last_active_at::bigint) + nullif(@idle_timeout::bigint, 0))
  FROM t
  WHERE s.tenant = @tenant AND s.id = @id
    AND t.now < least(t.expires_at, t.last_active_at + nullif(t.idle_timeout, 0))
  RETURNING s.tenant, s.last_active_at, t.now, t.data_key AS key_from
), told AS (
  INSERT INTO sessiond.event (
    told_at, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id)
  SELECT new.now, new.tenant, @id, @event_id, @event_type, @event_at::bigint, @event_subject, @event_version::bigint,
    @event_reason, @event_note, @event_sub, @event_client, @event_request_id
  FROM new
  WHERE @event_id <> ''
), counted AS (
  INSERT INTO sessiond.delta (tenant, active, key_from, key_to)
  SELECT new.tenant, CASE WHEN @ended_at::bigint IS NULL THEN 0 ELSE -1 END, new.key_from, @data_key::bigint
  FROM new
  WHERE @ended_at::bigint IS NOT NULL OR new.key_from <> @data_key::bigint
)
SELECT new.now, new.last_active_at
FROM new
