-- Records again, when no writer is between its clock and its commit: each row's
-- lock waits for the writer that has it, and the clock is read after that.
WITH cur AS MATERIALIZED (
  SELECT s.*
  FROM sessiond.session s
  WHERE (s.tenant, s.id) IN (SELECT k.tenant, k.id FROM unnest(@tenants::text[], @ids::text[]) AS k (tenant, id))
  ORDER BY s.tenant, s.created_at DESC, s.id DESC
  FOR SHARE OF s
)
SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, {record}
FROM cur s
