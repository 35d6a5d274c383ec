-- The tenants of events that a snapshot has not seen, from up to 1,000 events.
WITH m AS MATERIALIZED ({feed_meta}), new AS MATERIALIZED (
  (SELECT e.tenant FROM sessiond.event e
    WHERE e.txid >= @xmax::text::xid8 ORDER BY e.txid LIMIT 1000)
  UNION ALL
  (SELECT e.tenant FROM sessiond.event e WHERE e.txid = ANY (@running::text[]::xid8[]) LIMIT 1000)
)
SELECT m.epoch, m.snapshot, m.newest, m.trimmed_txid,
  (SELECT count(*) FROM new), ARRAY (SELECT DISTINCT new.tenant FROM new)
FROM m
