-- Up to a thousand records in order of their keys.
SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, {record}
FROM (
  SELECT s.*
  FROM sessiond.session s
  WHERE (s.tenant, s.id) > (@tenant, @id)
  ORDER BY s.tenant, s.id
  LIMIT 1000
) s
ORDER BY s.tenant, s.id
LIMIT @most::bigint
