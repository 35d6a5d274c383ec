-- A new record with its event, unless the key is taken. Times are null, to be
-- set here, or those of an imported record.
WITH t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now
), times AS MATERIALIZED (
  SELECT t.now,
    coalesce(@created_at::bigint, t.now) AS created_at,
    coalesce(@updated_at::bigint, t.now) AS updated_at,
    coalesce(@last_active_at::bigint, t.now) AS last_active_at,
    coalesce(@expires_at::bigint, t.now + @lifetime::bigint) AS expires_at
  FROM t
), new AS (
  INSERT INTO sessiond.session (
    tenant, id, incarnation, version, subject, labels, data, data_key,
    created_at, updated_at, last_active_at, expires_at, idle_timeout, created_sub, created_client,
    token_hash, previous_token_hash, previous_token_until, create_hash,
    ended_at, end_reason, end_note, ended_sub, ended_client, filed_at)
  SELECT
    @tenant, @id, @incarnation::bytea, @version::bigint, @subject, @labels::jsonb, @data::bytea, @data_key::bigint,
    created_at, updated_at, last_active_at, expires_at, @idle_timeout::bigint, @created_sub, @created_client,
    @token_hash::bytea, @previous_token_hash::bytea, @previous_token_until::bigint, @create_hash::bytea,
    NULL, '', '', '', '', least(expires_at, last_active_at + nullif(@idle_timeout::bigint, 0))
  FROM times
  ON CONFLICT DO NOTHING
  RETURNING tenant
), told AS (
  INSERT INTO sessiond.event (
    told_at, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id)
  SELECT t.now, new.tenant, @id, @event_id, @event_type, t.now, @subject, @version::bigint,
    @event_reason, @event_note, @event_sub, @event_client, @event_request_id
  FROM new, t
), counted AS (
  INSERT INTO sessiond.delta (tenant, active, key_from, key_to)
  SELECT new.tenant, 1, 0, @data_key::bigint
  FROM new
)
SELECT t.now
FROM new, t
