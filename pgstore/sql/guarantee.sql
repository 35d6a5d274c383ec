-- The settings that decide about durability, as this session has them, and the
-- standbys that have to confirm commits. Those who may not see the state of standbys get
-- nulls.
SELECT pg_is_in_recovery(),
  coalesce((
    SELECT jsonb_object_agg(g.name, g.setting)
    FROM pg_settings g
    WHERE g.name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'data_sync_retry', 'synchronous_standby_names')
  ), '{}')::text,
  (SELECT count(*) FROM pg_stat_replication r),
  (SELECT count(*) FROM pg_stat_replication r WHERE r.sync_state IS NULL),
  (SELECT count(*) FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum') AND r.state = 'streaming')
