-- A page of the feed: events that the snapshot @seen has not seen, up to the
-- snapshot @until (null: that of this statement), with numbers above @after. A null
-- @after stands for the place before the first of them, which the index of
-- transaction ids finds: those that were running in @seen, and all later ones. It looks at up
-- to 2,000 and returns those of the tenant, and the last one looked at.
WITH m AS MATERIALIZED ({feed_meta}), page AS MATERIALIZED (
  SELECT *
  FROM (
    SELECT e.*, row_number() OVER (ORDER BY e.ord) AS n
    FROM (
      SELECT e.*
      FROM sessiond.event e
      WHERE e.ord > (SELECT coalesce(@after::bigint,
          least(
            (SELECT min(u.ord + 0) FROM sessiond.event u WHERE u.txid >= @xmax::text::xid8),
            (SELECT min(u.ord + 0) FROM sessiond.event u WHERE u.txid = ANY (@running::text[]::xid8[]))
          ) - 1,
          9223372036854775807))
        AND NOT pg_visible_in_snapshot(e.txid, @seen::text::pg_snapshot)
        AND (@until::text IS NULL OR pg_visible_in_snapshot(e.txid, @until::text::pg_snapshot))
      ORDER BY e.ord
      LIMIT 2000
    ) e
  ) e
  WHERE e.tenant = @tenant OR e.n = 2000
  LIMIT @most::bigint
)
SELECT m.epoch, m.snapshot, m.newest, m.trimmed_txid, m.trimmed_ord, m.forgotten_txid,
  EXISTS (SELECT FROM sessiond.trimmed t WHERE t.txid = ANY (@running::text[]::xid8[])),
  EXISTS (SELECT FROM sessiond.trimmed t WHERE t.txid = ANY (@until_running::text[]::xid8[])),
  coalesce(p.n, 0), coalesce(p.ord, 0), coalesce(p.tenant, ''), coalesce(p.session_id, ''), coalesce(p.id, ''),
  coalesce(p.type, ''), coalesce(p.at, 0), coalesce(p.subject, ''), coalesce(p.version, 0), coalesce(p.reason, ''),
  coalesce(p.note, ''), coalesce(p.sub, ''), coalesce(p.client, ''), coalesce(p.request_id, '')
FROM m
LEFT JOIN page p ON true
ORDER BY p.n
