-- +goose Up

-- The store's clock in milliseconds since 1970, read where a statement decides.
-- low is the latest time that the caller has seen here, moved on by what has
-- passed since: time stands still while the machine's clock is up to a minute
-- behind it. A larger step back is believed.
-- +goose StatementBegin
CREATE FUNCTION sessiond.clock(low bigint, skew bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT CASE
    WHEN low - skew > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + 60000
    THEN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + skew
    ELSE greatest(low, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + skew)
  END
$$;
-- +goose StatementEnd

-- Times are milliseconds since 1970, durations milliseconds.
CREATE TABLE sessiond.session (
  tenant               text COLLATE "C" NOT NULL,
  id                   text COLLATE "C" NOT NULL,
  incarnation          bytea  NOT NULL,
  revision             bigint NOT NULL DEFAULT 1, -- one more with every change but a touch
  version              bigint NOT NULL,
  subject              text COLLATE "C" NOT NULL, -- empty: a guest
  labels               jsonb,
  data                 bytea,                     -- sealed
  data_key             bigint NOT NULL,
  created_at           bigint NOT NULL,
  updated_at           bigint NOT NULL,
  last_active_at       bigint NOT NULL,
  expires_at           bigint NOT NULL,
  idle_timeout         bigint NOT NULL,           -- 0: none
  created_sub          text COLLATE "C" NOT NULL,
  created_client       text COLLATE "C" NOT NULL,
  token_hash           bytea  NOT NULL,
  previous_token_hash  bytea,
  previous_token_until bigint,
  create_hash          bytea,
  ended_at             bigint,                    -- null until something has ended it
  end_reason           text COLLATE "C" NOT NULL,
  end_note             text COLLATE "C" NOT NULL,
  ended_sub            text COLLATE "C" NOT NULL,
  ended_client         text COLLATE "C" NOT NULL,
  filed_at             bigint NOT NULL,           -- when the sweeper has to look: not after the deadline
  PRIMARY KEY (tenant, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Sealed data does not compress.
ALTER TABLE sessiond.session ALTER COLUMN data SET STORAGE EXTERNAL;

-- Lists. A list of live sessions does not pay for ended ones. Guests have no list of their own.
CREATE INDEX session_live ON sessiond.session (tenant, created_at DESC, id DESC)
  WHERE ended_at IS NULL;
CREATE INDEX session_ended ON sessiond.session (tenant, created_at DESC, id DESC)
  WHERE ended_at IS NOT NULL;
CREATE INDEX session_subject_live ON sessiond.session (tenant, subject, created_at DESC, id DESC)
  WHERE ended_at IS NULL AND subject <> '';
CREATE INDEX session_subject_ended ON sessiond.session (tenant, subject, created_at DESC, id DESC)
  WHERE ended_at IS NOT NULL AND subject <> '';

-- The sweeper's.
CREATE INDEX session_due ON sessiond.session (filed_at) WHERE ended_at IS NULL;
CREATE INDEX session_retained ON sessiond.session (ended_at) WHERE ended_at IS NOT NULL;

-- The feed. Nothing here is ever updated. ord is drawn while the session's row is locked, so
-- that it orders the events of one session.
CREATE TABLE sessiond.event (
  ord        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  txid       xid8   NOT NULL DEFAULT pg_current_xact_id(),
  told_at    bigint NOT NULL, -- when it was written
  tenant     text COLLATE "C" NOT NULL,
  session_id text COLLATE "C" NOT NULL,
  id         text COLLATE "C" NOT NULL,
  type       text COLLATE "C" NOT NULL,
  at         bigint NOT NULL, -- the event's own time
  subject    text COLLATE "C" NOT NULL,
  version    bigint NOT NULL,
  reason     text COLLATE "C" NOT NULL,
  note       text COLLATE "C" NOT NULL,
  sub        text COLLATE "C" NOT NULL,
  client     text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX event_txid ON sessiond.event (txid, ord);

-- Changes of the counters, not yet added to them: a row that every writer
-- updates would make commits wait for each other.
CREATE TABLE sessiond.delta (
  tenant   text COLLATE "C" NOT NULL,
  active   int    NOT NULL, -- sessions that began minus sessions that ended
  key_from bigint NOT NULL, -- data key of the record before, 0: none
  key_to   bigint NOT NULL  -- and after
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE sessiond.counter (
  kind text COLLATE "C" NOT NULL, -- active or data_key
  key  text COLLATE "C" NOT NULL, -- the tenant or the number of the data key
  n    bigint NOT NULL,
  PRIMARY KEY (kind, key)
);

-- One row.
CREATE TABLE sessiond.meta (
  one            boolean PRIMARY KEY DEFAULT true CHECK (one),
  compatible     bigint NOT NULL, -- the oldest schema version whose programs can work with this one
  epoch          bytea  NOT NULL, -- marks positions of this feed
  system         bigint NOT NULL, -- the cluster whose transaction ids the feed has
  trimmed_ord    bigint NOT NULL DEFAULT 0,
  trimmed_txid   xid8   NOT NULL DEFAULT '0', -- the largest of a trimmed event
  forgotten_txid xid8   NOT NULL DEFAULT '0'  -- the largest that is no longer in trimmed
);

-- The transactions whose events were trimmed, those with the largest ids.
CREATE TABLE sessiond.trimmed (
  txid xid8 PRIMARY KEY
);

INSERT INTO sessiond.meta (compatible, epoch, system)
SELECT 1, decode(replace(gen_random_uuid()::text, '-', ''), 'hex'), system_identifier FROM pg_control_system();
