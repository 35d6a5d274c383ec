SELECT pg_current_snapshot()::text AS snapshot,
    encode(meta.epoch, 'hex') || '.' || system.system_identifier || '.' ||
      left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS epoch,
    coalesce((SELECT e.txid FROM sessiond.event e ORDER BY e.txid DESC LIMIT 1), '0'::xid8)::text AS newest,
    meta.trimmed_ord, meta.trimmed_txid::text AS trimmed_txid, meta.forgotten_txid::text AS forgotten_txid
  FROM sessiond.meta, pg_control_system() AS system
