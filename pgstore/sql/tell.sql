told AS (
  INSERT INTO sessiond.event (
    told_at, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id)
  SELECT o.now, o.tenant, o.id, translate(encode(o.incarnation, 'base64'), '+/', '-_') || '.' || o.version,
    o.type, o.updated_at, o.subject, o.version, o.end_reason, o.end_note, o.ended_sub, o.ended_client, o.request_id
  FROM over o
  ORDER BY o.updated_at, o.tenant, o.id
), counted AS (
  INSERT INTO sessiond.delta (tenant, active, key_from, key_to)
  SELECT o.tenant, -1, o.key_from, 0
  FROM over o
)
