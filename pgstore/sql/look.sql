-- What a sweeper would find to do. Of what is due it looks at no more than 10,000.
WITH t AS MATERIALIZED (
  SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now
), due AS MATERIALIZED (
  SELECT least(s.expires_at, s.last_active_at + nullif(s.idle_timeout, 0)) AS deadline
  FROM sessiond.session s
  WHERE s.ended_at IS NULL AND s.filed_at <= (SELECT t.now FROM t)
  ORDER BY s.filed_at
  LIMIT 10000
), front AS MATERIALIZED (
  SELECT e.ord, e.told_at
  FROM sessiond.event e
  ORDER BY e.ord
  LIMIT 1
)
SELECT
  (SELECT count(*) FROM due) AS filed,
  (SELECT count(*) FROM due WHERE due.deadline <= t.now) AS backlog,
  coalesce(t.now - (SELECT min(due.deadline) FROM due WHERE due.deadline <= t.now), 0) AS lag,
  coalesce((
    SELECT s.ended_at
    FROM sessiond.session s
    WHERE s.ended_at IS NOT NULL
    ORDER BY s.ended_at
    LIMIT 1
  ) <= t.now - @retention::bigint, false) AS removable,
  coalesce((
    SELECT front.told_at < t.now - @event_retention::bigint OR front.ord <=
      (SELECT e.ord FROM sessiond.event e ORDER BY e.ord DESC LIMIT 1) - @keep::bigint
    FROM front
  ), false) AS trimmable,
  EXISTS (SELECT FROM sessiond.delta) AS changed
FROM t
