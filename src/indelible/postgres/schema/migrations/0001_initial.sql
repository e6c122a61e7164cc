-- The tables of a store. What is written into them, and read, goes through schema/functions.
-- "indelible." stands for the store's schema: `indelible store init --schema NAME` puts NAME in its place.

CREATE SCHEMA IF NOT EXISTS indelible;

CREATE TABLE indelible.migrations (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    checksum text NOT NULL,
    CONSTRAINT migrations_pkey PRIMARY KEY (version)
);
COMMENT ON TABLE indelible.migrations IS 'The migrations applied to this store, in order.';
COMMENT ON COLUMN indelible.migrations.version IS 'The number that the file''s name starts with.';
COMMENT ON COLUMN indelible.migrations.name IS 'The file''s name without its number.';
COMMENT ON COLUMN indelible.migrations.applied_at IS 'When it was applied.';
COMMENT ON COLUMN indelible.migrations.checksum IS 'SHA-256 of the file.';

CREATE TABLE indelible.function_sets (
    number integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    checksums jsonb NOT NULL,
    CONSTRAINT function_sets_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE indelible.function_sets IS
    'The sets of functions applied to this store: the one with the highest number is there.';
COMMENT ON COLUMN indelible.function_sets.number IS 'The number of the set, which only grows.';
COMMENT ON COLUMN indelible.function_sets.applied_at IS 'When it was applied.';
COMMENT ON COLUMN indelible.function_sets.checksums IS 'SHA-256 of each of its files.';


-- Streams and events ------------------------------------------------------------------------------

-- A type of its own, and not a CHECK in each table: that is read from its text again by every
-- statement that writes a row, and appends paid more for it than for any of their indexes.
CREATE DOMAIN indelible.name AS text COLLATE "C"
CONSTRAINT name_length CHECK (length(value) BETWEEN 1 AND 255);
COMMENT ON DOMAIN indelible.name IS
    'What a stream, a channel or a type of events is called: 1 to 255 characters.';

CREATE TABLE indelible.streams (
    id bigint GENERATED ALWAYS AS IDENTITY,
    version bigint NOT NULL,
    name indelible.name NOT NULL,
    channel indelible.name NOT NULL,
    closed_at timestamptz,
    archived_at timestamptz,
    erased_at timestamptz,
    CONSTRAINT streams_pkey PRIMARY KEY (id),
    CONSTRAINT streams_name_key UNIQUE (name)
)
-- Every append updates one row in place: half-empty pages keep that a heap-only update, and vacuum
-- comes soon enough that there is room.
WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.02
);
COMMENT ON TABLE indelible.streams IS
    'One row a stream. Its row lock serialises the writers of that stream and of no other.';
COMMENT ON SEQUENCE indelible.streams_id_seq IS 'Hands out streams.id.';
COMMENT ON COLUMN indelible.streams.id IS 'A short name for the stream inside the database.';
COMMENT ON COLUMN indelible.streams.version IS 'The version of the stream''s last event.';
COMMENT ON COLUMN indelible.streams.name IS 'The stream''s name: delivery-7f3c…';
COMMENT ON COLUMN indelible.streams.channel IS
    'The service that owns the stream; fixed by the stream''s first append.';
COMMENT ON COLUMN indelible.streams.closed_at IS 'When it was closed; null for an open stream.';
COMMENT ON COLUMN indelible.streams.archived_at IS
    'When its events were moved to archived_events last; null for never.';
COMMENT ON COLUMN indelible.streams.erased_at IS
    'When the data of its events was erased last; null for never.';

-- MINVALUE 0 and a first value taken here: "handed out so far" is last_value from the start.
CREATE SEQUENCE indelible.events_position MINVALUE 0 START 0;
COMMENT ON SEQUENCE indelible.events_position IS 'Hands out positions. It never goes back.';
SELECT nextval('indelible.events_position');

-- In a migration, and not with the other functions: a constraint calls it.
CREATE FUNCTION indelible.is_valid_timestamp(value timestamptz)
RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    RETURN value >= '0001-01-01 00:00+00' AND value < '10000-01-01 00:00+00';
END
$$;
COMMENT ON FUNCTION indelible.is_valid_timestamp(timestamptz) IS
    'Whether it is in the years 1 to 9999 of UTC: no reader in Python has any other.';

CREATE TABLE indelible.events (
    position bigint NOT NULL,
    stream_id bigint NOT NULL,
    version bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    id uuid NOT NULL,
    type indelible.name NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb,
    tags text[] COLLATE "C",
    valid_at timestamptz,
    -- A column that is null takes no room.
    erasure bigint,
    CONSTRAINT events_pkey PRIMARY KEY (position),
    CONSTRAINT events_stream_version_key UNIQUE (stream_id, version),
    CONSTRAINT events_id_key UNIQUE (id),
    -- Not a type of its own, as names have: its index would not be found for rows (valid_at, position).
    -- A function, since every statement that writes a row reads the CHECK from its text again.
    CONSTRAINT events_valid_at_range CHECK (indelible.is_valid_timestamp(valid_at))
)
-- What is written once and never changes is frozen with the first vacuum that comes by, a little at
-- a time, and not all at once when transaction ids run short; small parts keep the visibility map
-- fresh.
WITH (
    autovacuum_freeze_min_age = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_analyze_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.02
);
-- Nothing for the events whose valid time is their recorded time.
CREATE INDEX events_valid_at_index ON indelible.events (valid_at, position)
WHERE valid_at IS NOT NULL;
COMMENT ON TABLE indelible.events IS
    'The log: append-only. UPDATE, DELETE and TRUNCATE are refused by triggers.';
COMMENT ON COLUMN indelible.events.position IS
    'The event''s place in the whole log: grows, may have gaps.';
COMMENT ON COLUMN indelible.events.stream_id IS 'The stream: streams.id.';
COMMENT ON COLUMN indelible.events.version IS
    'The event''s place in its stream: 0, 1, 2, … without gaps.';
COMMENT ON COLUMN indelible.events.recorded_at IS 'When the store took the event.';
COMMENT ON COLUMN indelible.events.id IS 'The event''s identity, unique in the store.';
COMMENT ON COLUMN indelible.events.type IS 'What kind of fact it is: DeliveryCanceled.';
COMMENT ON COLUMN indelible.events.data IS 'The fact itself; JSON''s null where it was erased.';
COMMENT ON COLUMN indelible.events.metadata IS 'What is known about the event; null for nothing.';
COMMENT ON COLUMN indelible.events.tags IS 'Labels key:value; null for none.';
COMMENT ON COLUMN indelible.events.valid_at IS
    'When the fact holds in the world; null where that is recorded_at.';
COMMENT ON COLUMN indelible.events.erasure IS
    'By which change it was erased: stream_changes.number; 0 where it was erased before it was imported; null where it was not.';

CREATE TABLE indelible.event_tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT event_tags_pkey PRIMARY KEY (tag, position)
)
WITH (
    autovacuum_freeze_min_age = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_insert_scale_factor = 0.01
);
COMMENT ON TABLE indelible.event_tags IS
    'Which events have a tag: narrow, so that "after a position" is a range of its index.';
COMMENT ON COLUMN indelible.event_tags.tag IS 'A label key:value.';
COMMENT ON COLUMN indelible.event_tags.position IS 'The event: events.position.';

-- Every appender holds this one, and a weak lock on a table costs next to nothing: the server keeps
-- it with the session. It is a table of its own because vacuum locks tables that hold something.
CREATE TABLE indelible.append_lock ();
COMMENT ON TABLE indelible.append_lock IS
    'Holds nothing. Whoever appends locks it, weakly; a condition without tags locks it against them.';


-- Closed, archived and erased streams -------------------------------------------------------------

CREATE TABLE indelible.stream_changes (
    number bigint GENERATED ALWAYS AS IDENTITY,
    stream_id bigint NOT NULL,
    operation text NOT NULL,
    events bigint,
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT now(),
    reason text,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    noted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stream_changes_pkey PRIMARY KEY (number),
    CONSTRAINT stream_changes_operation
        CHECK (operation IN ('close', 'reopen', 'archive', 'erase'))
);
CREATE INDEX stream_changes_stream_index ON indelible.stream_changes (stream_id, number);
CREATE INDEX stream_changes_transaction_index ON indelible.stream_changes (transaction_id);
COMMENT ON TABLE indelible.stream_changes IS
    'Who closed, reopened, archived or erased a stream, when and why. Append-only: a row is what lets its transaction do it.';
COMMENT ON SEQUENCE indelible.stream_changes_number_seq IS 'Hands out stream_changes.number.';
COMMENT ON COLUMN indelible.stream_changes.number IS 'The changes in order.';
COMMENT ON COLUMN indelible.stream_changes.stream_id IS 'The stream: streams.id.';
COMMENT ON COLUMN indelible.stream_changes.operation IS 'close, reopen, archive or erase.';
COMMENT ON COLUMN indelible.stream_changes.events IS
    'How many events were moved or erased; null where none is touched.';
COMMENT ON COLUMN indelible.stream_changes.changed_by IS 'The role that was logged in.';
COMMENT ON COLUMN indelible.stream_changes.changed_at IS 'When its transaction began.';
COMMENT ON COLUMN indelible.stream_changes.reason IS 'Why; null where nothing was said.';
COMMENT ON COLUMN indelible.stream_changes.transaction_id IS
    'The transaction that did it, or imported it.';
COMMENT ON COLUMN indelible.stream_changes.noted_at IS
    'When that transaction began: later than changed_at where it was imported.';

-- Not a child of events: appends would lock it, and no index is of both. What reads all events reads
-- the view. Columns that events are given later come here too, in the same order.
CREATE TABLE indelible.archived_events (
    LIKE indelible.events INCLUDING COMMENTS INCLUDING CONSTRAINTS,
    CONSTRAINT archived_events_pkey PRIMARY KEY (position),
    CONSTRAINT archived_events_stream_version_key UNIQUE (stream_id, version),
    CONSTRAINT archived_events_id_key UNIQUE (id)
);
CREATE INDEX archived_events_valid_at_index ON indelible.archived_events (valid_at, position)
WHERE valid_at IS NOT NULL;
COMMENT ON TABLE indelible.archived_events IS
    'The events of archived streams: they are no longer written to.';

-- Appends ask whether there is an archive: a sequence is read in an expression, and what it says holds
-- at once, whatever the snapshot, before the first event is moved.
CREATE SEQUENCE indelible.archive_count;
COMMENT ON SEQUENCE indelible.archive_count IS
    'How often streams were archived, at least; no value yet in a store without archived events.';

CREATE TABLE indelible.archive_lock (
    is_only boolean NOT NULL
);
COMMENT ON TABLE indelible.archive_lock IS
    'One row, which archive_stream() updates: a transaction with an older snapshot fails to lock it.';
COMMENT ON COLUMN indelible.archive_lock.is_only IS 'Always true: there is one row.';
INSERT INTO indelible.archive_lock (is_only) VALUES (true);


-- Epochs: which history of the log this is --------------------------------------------------------

-- Without an index: a few rows, and the first append of a session would lock each index as well.
CREATE TABLE indelible.epochs (
    number integer NOT NULL,
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_position bigint NOT NULL,
    safe_through bigint NOT NULL,
    timeline integer,
    system_identifier bigint,
    database_oid oid,
    events_oid oid,
    server_started_at timestamptz NOT NULL DEFAULT pg_postmaster_start_time()
);
COMMENT ON TABLE indelible.epochs IS
    'The histories of this store: a new one begins when the log may have lost its last events, by a fail-over or a restore.';
COMMENT ON COLUMN indelible.epochs.number IS 'The epochs in order.';
COMMENT ON COLUMN indelible.epochs.epoch IS 'The random id that checkpoints carry.';
COMMENT ON COLUMN indelible.epochs.began_at IS 'When it began.';
COMMENT ON COLUMN indelible.epochs.last_position IS
    'The last position that had been handed out when it began.';
COMMENT ON COLUMN indelible.epochs.safe_through IS
    'Up to this position the log is the same as in the epoch before.';
COMMENT ON COLUMN indelible.epochs.timeline IS
    'The timeline of the server: another one after each promotion and point-in-time recovery. Null if the server does not say.';
COMMENT ON COLUMN indelible.epochs.system_identifier IS
    'The identifier of the cluster: another one after initdb. Null if the server does not say.';
COMMENT ON COLUMN indelible.epochs.database_oid IS
    'The database: another one in a copy of it. Null for an epoch that an operator began.';
COMMENT ON COLUMN indelible.epochs.events_oid IS
    'The table events: another one after a dump was restored.';
COMMENT ON COLUMN indelible.epochs.server_started_at IS
    'Since when the server runs that the leases of workers are of.';

CREATE TABLE indelible.settled (
    is_only boolean NOT NULL DEFAULT true,
    position bigint NOT NULL,
    noted_at timestamptz NOT NULL,
    CONSTRAINT settled_pkey PRIMARY KEY (is_only),
    CONSTRAINT settled_is_one_row CHECK (is_only)
)
-- The row is updated in place.
WITH (fillfactor = 10);
COMMENT ON TABLE indelible.settled IS
    'One row at most: a position up to which the log was settled when the row was written. A server that has the row has all these events: they come before it in the write-ahead log.';
COMMENT ON COLUMN indelible.settled.is_only IS 'Always true: there is one row.';
COMMENT ON COLUMN indelible.settled.position IS 'The position.';
COMMENT ON COLUMN indelible.settled.noted_at IS 'When it was noted.';


-- Recorded time -----------------------------------------------------------------------------------

CREATE TABLE indelible.recorded_time_index (
    position bigint NOT NULL,
    earliest timestamptz,
    latest timestamptz,
    latest_so_far timestamptz NOT NULL,
    CONSTRAINT recorded_time_index_pkey PRIMARY KEY (position)
);
CREATE INDEX recorded_time_index_latest_so_far_index ON indelible.recorded_time_index
    (latest_so_far, position);
COMMENT ON TABLE indelible.recorded_time_index IS
    'One row per 1,000 settled positions: when they were recorded. Readers add rows; appends do not.';
COMMENT ON COLUMN indelible.recorded_time_index.position IS 'The last of its positions: a multiple of 1,000.';
COMMENT ON COLUMN indelible.recorded_time_index.earliest IS
    'The earliest recorded_at of its events; null where there is none.';
COMMENT ON COLUMN indelible.recorded_time_index.latest IS
    'The latest recorded_at of its events; null where there is none.';
COMMENT ON COLUMN indelible.recorded_time_index.latest_so_far IS
    'The latest recorded_at of all events up to here.';


-- Snapshots ---------------------------------------------------------------------------------------

CREATE TABLE indelible.snapshots (
    stream_id bigint NOT NULL,
    version bigint NOT NULL,
    by_valid_time boolean NOT NULL,
    valid_at timestamptz,
    from_version bigint,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (stream_id, state, by_valid_time),
    CONSTRAINT snapshots_valid_at CHECK (
        by_valid_time = (valid_at IS NOT NULL) AND by_valid_time = (from_version IS NOT NULL)
    )
);
COMMENT ON TABLE indelible.snapshots IS
    'States made of a stream''s events up to a version: the latest of each kind. They may be deleted.';
COMMENT ON COLUMN indelible.snapshots.stream_id IS 'The stream: streams.id.';
COMMENT ON COLUMN indelible.snapshots.version IS 'The version of the last event that it knows of.';
COMMENT ON COLUMN indelible.snapshots.by_valid_time IS
    'Whether the events were taken in order of valid time, or of version.';
COMMENT ON COLUMN indelible.snapshots.valid_at IS
    'By valid time: the valid time of the last event that went into it.';
COMMENT ON COLUMN indelible.snapshots.from_version IS
    'By valid time: the lowest version of which the event is not in it, such as a fact of the future.';
COMMENT ON COLUMN indelible.snapshots.taken_at IS 'When it was taken.';
COMMENT ON COLUMN indelible.snapshots.state IS 'The name of the state''s class.';
COMMENT ON COLUMN indelible.snapshots.fingerprint IS
    'A hash of what the state is like and of the code that makes it: another one, another state.';
COMMENT ON COLUMN indelible.snapshots.data IS 'The state.';


-- Consumer groups ---------------------------------------------------------------------------------

-- A group's progress in order of valid time. Rows compare as a whole, first by the due time.
CREATE TYPE indelible.due_key AS (due_at timestamptz, "position" bigint);
COMMENT ON TYPE indelible.due_key IS
    'A key in the order in which events become due: a valid time, then a position.';

CREATE TABLE indelible.groups (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    query jsonb,
    partition_by text,
    start_position bigint NOT NULL,
    max_attempts integer NOT NULL,
    retry_seconds double precision NOT NULL,
    lease_seconds double precision NOT NULL,
    park_blocks_stream boolean NOT NULL,
    deliver_when_valid boolean NOT NULL,
    last_token bigint NOT NULL DEFAULT 0,
    ended_token bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT groups_pkey PRIMARY KEY (id),
    CONSTRAINT groups_name_key UNIQUE (name),
    CONSTRAINT groups_name_length CHECK (length(name) BETWEEN 1 AND 255)
);
COMMENT ON TABLE indelible.groups IS 'One row a consumer group: what it reads, and how it retries.';
COMMENT ON SEQUENCE indelible.groups_id_seq IS 'Hands out groups.id.';
COMMENT ON COLUMN indelible.groups.id IS 'A short name for the group inside the database.';
COMMENT ON COLUMN indelible.groups.name IS 'The group''s name.';
COMMENT ON COLUMN indelible.groups.query IS 'The items of its query; null for every event.';
COMMENT ON COLUMN indelible.groups.partition_by IS
    'What is kept in order: null for the stream, tag:KEY or metadata:FIELD.';
COMMENT ON COLUMN indelible.groups.start_position IS 'The position that it began after.';
COMMENT ON COLUMN indelible.groups.max_attempts IS 'After how many attempts an event is parked.';
COMMENT ON COLUMN indelible.groups.retry_seconds IS
    'How long the first retry waits; each one after it twice as long.';
COMMENT ON COLUMN indelible.groups.lease_seconds IS
    'After how long without a heartbeat the lease of a worker expires.';
COMMENT ON COLUMN indelible.groups.park_blocks_stream IS
    'Whether the later events of a stream wait behind a parked one.';
COMMENT ON COLUMN indelible.groups.deliver_when_valid IS
    'Whether each event is handed out when its valid time comes.';
COMMENT ON COLUMN indelible.groups.last_token IS 'The last fencing token: they only grow.';
COMMENT ON COLUMN indelible.groups.ended_token IS
    'Workers up to this token begin anew: the group was reset or changed, or the server was started.';
COMMENT ON COLUMN indelible.groups.created_at IS 'When it was created.';

CREATE TABLE indelible.group_workers (
    group_id bigint NOT NULL,
    token bigint NOT NULL,
    name text NOT NULL,
    instance uuid NOT NULL,
    round integer NOT NULL DEFAULT 0,
    checkpoint bigint NOT NULL DEFAULT 0,
    checkpoint_due indelible.due_key,
    delivered bigint NOT NULL DEFAULT 0,
    delivered_due indelible.due_key,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT group_workers_pkey PRIMARY KEY (group_id, token),
    CONSTRAINT group_workers_group_fkey
        FOREIGN KEY (group_id) REFERENCES indelible.groups ON DELETE CASCADE
)
-- Every heartbeat updates one row in place.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.group_workers IS 'One row a worker that holds a lease.';
COMMENT ON COLUMN indelible.group_workers.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_workers.token IS
    'The fencing token: what a worker writes counts only while this row stands.';
COMMENT ON COLUMN indelible.group_workers.name IS 'Host and process, for people.';
COMMENT ON COLUMN indelible.group_workers.instance IS
    'The random id of the worker: when it joins anew, what it had under an older token is freed.';
COMMENT ON COLUMN indelible.group_workers.round IS
    'How often its slices were rebalanced: a heartbeat of an earlier round does not count.';
COMMENT ON COLUMN indelible.group_workers.checkpoint IS
    'Up to here the events of all its slices are finished, or stand in group_events.';
COMMENT ON COLUMN indelible.group_workers.checkpoint_due IS
    'Of the events up to its checkpoint, those due up to here; null where all of them.';
COMMENT ON COLUMN indelible.group_workers.delivered IS
    'No event beyond was handed to a handler.';
COMMENT ON COLUMN indelible.group_workers.delivered_due IS
    'No event due later was handed to a handler; null where none had a time of its own.';
COMMENT ON COLUMN indelible.group_workers.joined_at IS 'When it joined.';
COMMENT ON COLUMN indelible.group_workers.expires_at IS 'When it is taken for dead.';

CREATE TABLE indelible.group_slices (
    group_id bigint NOT NULL,
    slice smallint NOT NULL,
    token bigint,
    position bigint NOT NULL,
    due indelible.due_key,
    suspect bigint NOT NULL DEFAULT 0,
    suspect_due indelible.due_key,
    CONSTRAINT group_slices_pkey PRIMARY KEY (group_id, slice),
    CONSTRAINT group_slices_group_fkey
        FOREIGN KEY (group_id) REFERENCES indelible.groups ON DELETE CASCADE
)
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.group_slices IS
    'The 1,024 slices of a group: an event falls into one by the hash of its key.';
COMMENT ON COLUMN indelible.group_slices.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_slices.slice IS 'The number of the slice.';
COMMENT ON COLUMN indelible.group_slices.token IS 'The worker that it belongs to; null for none.';
COMMENT ON COLUMN indelible.group_slices.position IS
    'Up to here, or its worker''s checkpoint if that is higher, its events are finished.';
COMMENT ON COLUMN indelible.group_slices.due IS
    'Of the events up to its position, those due up to here, or its worker''s; null where all of them.';
COMMENT ON COLUMN indelible.group_slices.suspect IS
    'Up to here an event may have been under way when a worker died: attempts are counted first.';
COMMENT ON COLUMN indelible.group_slices.suspect_due IS
    'As suspect, in order of valid time; null where none with a time of its own may have been.';

CREATE TABLE indelible.group_events (
    group_id bigint NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    position bigint NOT NULL,
    slice smallint NOT NULL,
    key text COLLATE "C" NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    not_before timestamptz NOT NULL,
    reason text,
    error text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT group_events_pkey PRIMARY KEY (group_id, position),
    CONSTRAINT group_events_group_fkey
        FOREIGN KEY (group_id) REFERENCES indelible.groups ON DELETE CASCADE,
    CONSTRAINT group_events_state CHECK (state IN ('in_progress', 'retry', 'queued', 'parked'))
);
CREATE INDEX group_events_key_index ON indelible.group_events (group_id, key, number);
CREATE INDEX group_events_position_index ON indelible.group_events (group_id, key, position);
COMMENT ON TABLE indelible.group_events IS
    'The events that a group has not simply finished: retried, parked, and queued behind those.';
COMMENT ON SEQUENCE indelible.group_events_number_seq IS 'Hands out group_events.number.';
COMMENT ON COLUMN indelible.group_events.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_events.number IS
    'The order of those of a key: the one in which they are handed out.';
COMMENT ON COLUMN indelible.group_events.position IS 'The event: events.position.';
COMMENT ON COLUMN indelible.group_events.slice IS 'The slice that it falls into.';
COMMENT ON COLUMN indelible.group_events.key IS 'What is kept in order: its stream, tag or field.';
COMMENT ON COLUMN indelible.group_events.state IS
    'in_progress: a handler has it, or had it when its worker died; retry: waits for its next attempt; queued: waits behind an earlier event of its key; parked: waits for an operator.';
COMMENT ON COLUMN indelible.group_events.attempts IS 'How often it was handed to a handler.';
COMMENT ON COLUMN indelible.group_events.not_before IS 'When it may be tried again.';
COMMENT ON COLUMN indelible.group_events.reason IS 'Why it was parked or is tried again.';
COMMENT ON COLUMN indelible.group_events.error IS 'The text of the last error.';
COMMENT ON COLUMN indelible.group_events.updated_at IS 'When this row was written last.';


-- Projections -------------------------------------------------------------------------------------

CREATE TABLE indelible.projections (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    lifecycle text NOT NULL,
    state text NOT NULL,
    query jsonb NOT NULL,
    partitions smallint NOT NULL,
    indexes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    served_at timestamptz,
    retired_at timestamptz,
    live_after bigint NOT NULL
        DEFAULT coalesce(pg_sequence_last_value('indelible.events_position'), 0),
    CONSTRAINT projections_pkey PRIMARY KEY (id),
    CONSTRAINT projections_name_length CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT projections_kind CHECK (kind IN ('documents', 'tables', 'external')),
    CONSTRAINT projections_lifecycle CHECK (lifecycle IN ('inline', 'async')),
    CONSTRAINT projections_state CHECK (state IN ('building', 'serving', 'retired'))
);
CREATE UNIQUE INDEX projections_serving_index ON indelible.projections (name, version)
WHERE state = 'serving';
CREATE UNIQUE INDEX projections_building_index ON indelible.projections (name, version)
WHERE state = 'building';
COMMENT ON TABLE indelible.projections IS
    'One row a build of a projection: one that serves, and one beside it while it is built anew.';
COMMENT ON SEQUENCE indelible.projections_id_seq IS 'Hands out projections.id.';
COMMENT ON COLUMN indelible.projections.id IS 'A short name for the build inside the database.';
COMMENT ON COLUMN indelible.projections.name IS 'The projection''s name.';
COMMENT ON COLUMN indelible.projections.version IS
    'The version of its code: another one is another state.';
COMMENT ON COLUMN indelible.projections.kind IS
    'Where its state is: documents: in projection_documents; tables: in tables of the application; external: elsewhere.';
COMMENT ON COLUMN indelible.projections.lifecycle IS
    'inline: brought up to date by each append; async: by processes that follow the log.';
COMMENT ON COLUMN indelible.projections.state IS
    'building: not to be read yet; serving: what is read; retired: read no more.';
COMMENT ON COLUMN indelible.projections.query IS 'The items of its query.';
COMMENT ON COLUMN indelible.projections.partitions IS 'How many parts are kept up to date side by side.';
COMMENT ON COLUMN indelible.projections.indexes IS 'The fields of its documents that have an index.';
COMMENT ON COLUMN indelible.projections.created_at IS 'When it was begun.';
COMMENT ON COLUMN indelible.projections.served_at IS 'When it began to serve.';
COMMENT ON COLUMN indelible.projections.retired_at IS 'When it ceased to serve.';
COMMENT ON COLUMN indelible.projections.live_after IS
    'Events above this position are new to its readers: on_live is called for them.';

CREATE TABLE indelible.projection_partitions (
    projection_id bigint NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    epoch uuid NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    owner text,
    lease_seconds double precision NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    handled bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    is_stopped boolean NOT NULL DEFAULT false,
    error text,
    error_position bigint,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    events_per_second double precision NOT NULL DEFAULT 0,
    rated_handled bigint NOT NULL DEFAULT 0,
    rated_at timestamptz,
    CONSTRAINT projection_partitions_pkey PRIMARY KEY (projection_id, partition),
    CONSTRAINT projection_partitions_projection_fkey
        FOREIGN KEY (projection_id) REFERENCES indelible.projections ON DELETE CASCADE
)
-- Every batch updates one row in place.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.projection_partitions IS
    'The parts of a projection: how far each is, and whose it is.';
COMMENT ON COLUMN indelible.projection_partitions.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_partitions.partition IS
    'The number of the part: 0 to projections.partitions - 1.';
COMMENT ON COLUMN indelible.projection_partitions.position IS
    'The checkpoint: up to here its events are in its state.';
COMMENT ON COLUMN indelible.projection_partitions.epoch IS
    'The history of the store that the checkpoint is of.';
COMMENT ON COLUMN indelible.projection_partitions.token IS
    'The fencing token: what is written under an older one does not count. Grows with each lease.';
COMMENT ON COLUMN indelible.projection_partitions.owner IS
    'Who keeps it up to date: host and process, for people; null for nobody.';
COMMENT ON COLUMN indelible.projection_partitions.lease_seconds IS
    'How long its owner''s lease lasts from each sign of life.';
COMMENT ON COLUMN indelible.projection_partitions.expires_at IS
    'When its owner is taken for dead.';
COMMENT ON COLUMN indelible.projection_partitions.handled IS 'How many events it has taken in.';
COMMENT ON COLUMN indelible.projection_partitions.attempts IS
    'How often the next batch has failed.';
COMMENT ON COLUMN indelible.projection_partitions.not_before IS 'When it may be tried again.';
COMMENT ON COLUMN indelible.projection_partitions.is_stopped IS
    'Whether it waits for an operator.';
COMMENT ON COLUMN indelible.projection_partitions.error IS 'The text of the last error.';
COMMENT ON COLUMN indelible.projection_partitions.error_position IS
    'The event that it failed at; null where no single one is to blame.';
COMMENT ON COLUMN indelible.projection_partitions.updated_at IS 'When this row was written last.';
COMMENT ON COLUMN indelible.projection_partitions.events_per_second IS
    'How many events it took in per second between the last two signs of life of its owner.';
COMMENT ON COLUMN indelible.projection_partitions.rated_handled IS
    'How many events it had taken in at the last of them.';
COMMENT ON COLUMN indelible.projection_partitions.rated_at IS 'When that was.';

CREATE TABLE indelible.projection_parked (
    projection_id bigint NOT NULL,
    position bigint NOT NULL,
    partition smallint NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    discarded_at timestamptz,
    CONSTRAINT projection_parked_pkey PRIMARY KEY (projection_id, position, partition),
    CONSTRAINT projection_parked_projection_fkey
        FOREIGN KEY (projection_id) REFERENCES indelible.projections ON DELETE CASCADE
);
COMMENT ON TABLE indelible.projection_parked IS
    'The events that a projection leaves out, since its code failed at them.';
COMMENT ON COLUMN indelible.projection_parked.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_parked.position IS 'The event: events.position.';
COMMENT ON COLUMN indelible.projection_parked.partition IS 'The part that leaves it out.';
COMMENT ON COLUMN indelible.projection_parked.error IS 'The text of the error.';
COMMENT ON COLUMN indelible.projection_parked.parked_at IS 'When it was parked.';
COMMENT ON COLUMN indelible.projection_parked.discarded_at IS
    'When an operator gave it up. The row stays: it tells why the state is not what all events say.';

CREATE TABLE indelible.projection_documents (
    projection_id bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT projection_documents_pkey PRIMARY KEY (projection_id, key)
)
PARTITION BY LIST (projection_id);
COMMENT ON TABLE indelible.projection_documents IS
    'The documents of projections; each build has a table of its own, documents_ID, that is attached here.';
COMMENT ON COLUMN indelible.projection_documents.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_documents.key IS 'What the document is about.';
COMMENT ON COLUMN indelible.projection_documents.document IS 'The document.';
COMMENT ON COLUMN indelible.projection_documents.position IS
    'The last event that changed it: events.position.';

CREATE TABLE indelible.projection_workers (
    name text COLLATE "C" NOT NULL,
    projections bigint[] NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT projection_workers_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE indelible.projection_workers IS
    'The processes that keep projections up to date: what each could do, so that the work is dealt out evenly.';
COMMENT ON COLUMN indelible.projection_workers.name IS
    'Host, process and a random part: the owner of the partitions that it holds.';
COMMENT ON COLUMN indelible.projection_workers.projections IS
    'The builds that it has the code for: projections.id.';
COMMENT ON COLUMN indelible.projection_workers.expires_at IS
    'When it is taken for dead.';
