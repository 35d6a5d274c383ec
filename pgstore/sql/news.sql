-- The feed's state, and the tenants of events that a snapshot has not seen, a row
-- each or one with null, from up to 1,000 events.
WITH m AS MATERIALIZED ({feed_meta}), new AS MATERIALIZED (
  (SELECT e.tenant FROM sessiond.event e
    WHERE e.txid >= @xmax::text::xid8 ORDER BY e.txid LIMIT 1000)
  UNION ALL
  (SELECT e.tenant FROM sessiond.event e WHERE e.txid = ANY (@running::text[]::xid8[]) LIMIT 1000)
)
SELECT m.epoch, m.snapshot, m.newest, m.trimmed_txid, (SELECT count(*) FROM new), t.tenant
FROM m
LEFT JOIN (SELECT DISTINCT new.tenant FROM new) t ON true
