-- Records by their keys: the number of the key, and the time, which is read once, after
-- the statement's snapshot. A key without record has no row. Each key is one look into the primary
-- key, whatever the server believes to know of the table's size.
SELECT (SELECT sessiond.clock(@low::bigint, @skew::bigint)) AS now, k.n, {fields}
FROM unnest(@tenants::text[], @ids::text[]) WITH ORDINALITY AS k (tenant, id, n), LATERAL (
  SELECT *
  FROM sessiond.session s
  WHERE s.tenant = k.tenant AND s.id = k.id
  LIMIT 1
) s
