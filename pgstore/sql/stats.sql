-- Counters with what was not yet added to them.
WITH change AS (
  SELECT c.kind, c.key, c.n FROM sessiond.counter c
  UNION ALL SELECT 'active', d.tenant, d.active FROM sessiond.delta d
  UNION ALL SELECT 'data_key', d.key_from::text, -1 FROM sessiond.delta d WHERE d.key_from <> 0
  UNION ALL SELECT 'data_key', d.key_to::text, 1 FROM sessiond.delta d WHERE d.key_to <> 0
), total AS (
  SELECT change.kind, change.key, sum(change.n)::bigint AS n
  FROM change
  GROUP BY change.kind, change.key
  HAVING sum(change.n) <> 0
)
SELECT t.now, coalesce(total.kind, ''), coalesce(total.key, ''), coalesce(total.n, 0)
FROM (SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now) t
LEFT JOIN total ON true
