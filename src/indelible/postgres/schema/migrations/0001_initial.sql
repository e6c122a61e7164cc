-- The tables of a store. Programs write and read them through schema/functions. "indelible." is a
-- placeholder for the store's schema: `indelible store init --schema NAME` replaces it.

CREATE SCHEMA IF NOT EXISTS indelible;

CREATE TABLE indelible.migrations (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    checksum text NOT NULL,
    CONSTRAINT migrations_pkey PRIMARY KEY (version)
);
COMMENT ON TABLE indelible.migrations IS 'The migrations that were applied to this store, in order.';
COMMENT ON COLUMN indelible.migrations.version IS 'The number at the start of the file name.';
COMMENT ON COLUMN indelible.migrations.name IS 'The file name without the number.';
COMMENT ON COLUMN indelible.migrations.applied_at IS 'When it was applied.';
COMMENT ON COLUMN indelible.migrations.checksum IS 'SHA-256 of the file.';

CREATE TABLE indelible.function_sets (
    number integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    checksums jsonb NOT NULL,
    CONSTRAINT function_sets_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE indelible.function_sets IS
    'The function sets that were applied to this store. The one with the highest number is current.';
COMMENT ON COLUMN indelible.function_sets.number IS 'The number of the set; later sets have higher numbers.';
COMMENT ON COLUMN indelible.function_sets.applied_at IS 'When it was applied.';
COMMENT ON COLUMN indelible.function_sets.checksums IS 'SHA-256 of each of its files.';


-- Streams and events ------------------------------------------------------------------------------

-- A domain, and not a CHECK in each table: every statement that writes a row parses a CHECK again,
-- which cost appends more than any of their indexes.
CREATE DOMAIN indelible.name AS text COLLATE "C"
CONSTRAINT name_length CHECK (length(value) BETWEEN 1 AND 255);
COMMENT ON DOMAIN indelible.name IS
    'The name of a stream, a channel or an event type: 1 to 255 characters.';

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
-- Every append updates one row in place. Half-empty pages keep this a heap-only update, and vacuum
-- runs often enough to free room.
WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.02
);
COMMENT ON TABLE indelible.streams IS
    'One row per stream. Its row lock serializes the writers of that stream only.';
COMMENT ON SEQUENCE indelible.streams_id_seq IS 'Assigns streams.id.';
COMMENT ON COLUMN indelible.streams.id IS 'The id of the stream inside the database.';
COMMENT ON COLUMN indelible.streams.version IS 'The version of the stream''s last event.';
COMMENT ON COLUMN indelible.streams.name IS 'The stream''s name: delivery-7f3c…';
COMMENT ON COLUMN indelible.streams.channel IS
    'The service that owns the stream; fixed by the stream''s first append.';
COMMENT ON COLUMN indelible.streams.closed_at IS 'When it was closed; null for an open stream.';
COMMENT ON COLUMN indelible.streams.archived_at IS
    'When its events were last moved to archived_events; null if never.';
COMMENT ON COLUMN indelible.streams.erased_at IS
    'When the data of its events was last erased; null if never.';

-- MINVALUE 0, and the first value is taken here: so last_value is the last assigned position from
-- the start.
CREATE SEQUENCE indelible.events_position MINVALUE 0 START 0;
COMMENT ON SEQUENCE indelible.events_position IS 'Assigns positions. It never goes back.';
SELECT nextval('indelible.events_position');

-- In a migration, and not with the other functions, because a constraint calls it.
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
    'Whether a time is in the years 1 to 9999 of UTC: Python supports no others.';

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
    -- A column that is null takes no space.
    erasure bigint,
    CONSTRAINT events_pkey PRIMARY KEY (position),
    CONSTRAINT events_stream_version_key UNIQUE (stream_id, version),
    CONSTRAINT events_id_key UNIQUE (id),
    -- Not a domain, as for names: then row comparisons (valid_at, position) would not use its
    -- index. A function, because every statement that writes a row parses the CHECK again.
    CONSTRAINT events_valid_at_range CHECK (indelible.is_valid_timestamp(valid_at))
)
-- Rows never change, so the first vacuum freezes them, a few at a time. Otherwise a late vacuum
-- would freeze all of them at once, when transaction ids run short. Frequent vacuums also keep the
-- visibility map current.
WITH (
    autovacuum_freeze_min_age = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_analyze_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.02
);
-- Events whose valid time is their recorded time are not in this index.
CREATE INDEX events_valid_at_index ON indelible.events (valid_at, position)
WHERE valid_at IS NOT NULL;
COMMENT ON TABLE indelible.events IS
    'The log: append-only. Triggers reject UPDATE, DELETE and TRUNCATE.';
COMMENT ON COLUMN indelible.events.position IS
    'The event''s place in the whole log. Positions grow and may have gaps.';
COMMENT ON COLUMN indelible.events.stream_id IS 'The stream: streams.id.';
COMMENT ON COLUMN indelible.events.version IS
    'The event''s place in its stream: 0, 1, 2, … without gaps.';
COMMENT ON COLUMN indelible.events.recorded_at IS 'The recorded time: when the event was appended.';
COMMENT ON COLUMN indelible.events.id IS 'The event''s id, unique in the store.';
COMMENT ON COLUMN indelible.events.type IS 'The event type, such as DeliveryCanceled.';
COMMENT ON COLUMN indelible.events.data IS 'The event''s data; JSON null if it was erased.';
COMMENT ON COLUMN indelible.events.metadata IS 'The event''s metadata; null if empty.';
COMMENT ON COLUMN indelible.events.tags IS 'The event''s tags, key:value; null if it has none.';
COMMENT ON COLUMN indelible.events.valid_at IS
    'The valid time; null if it is recorded_at.';
COMMENT ON COLUMN indelible.events.erasure IS
    'The change that erased it: stream_changes.number; 0 if it was erased before it was imported; null if it was not erased.';

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
    'The events of each tag. The table is narrow: "after a position" is a range of its index.';
COMMENT ON COLUMN indelible.event_tags.tag IS 'The tag, key:value.';
COMMENT ON COLUMN indelible.event_tags.position IS 'The event: events.position.';

-- Every append locks this table in a weak mode. That is cheap, because the server keeps such a lock
-- with the session. It is a separate, empty table, because vacuum locks tables that have rows.
CREATE TABLE indelible.append_lock ();
COMMENT ON TABLE indelible.append_lock IS
    'Always empty. Each append locks it in a shared mode; a condition without tags locks it exclusively.';


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
    'The life cycle changes of streams (close, reopen, archive, erase): the role, the time and the reason. Append-only. A change is allowed only in the transaction that adds its row.';
COMMENT ON SEQUENCE indelible.stream_changes_number_seq IS 'Assigns stream_changes.number.';
COMMENT ON COLUMN indelible.stream_changes.number IS 'The order of the changes.';
COMMENT ON COLUMN indelible.stream_changes.stream_id IS 'The stream: streams.id.';
COMMENT ON COLUMN indelible.stream_changes.operation IS 'close, reopen, archive or erase.';
COMMENT ON COLUMN indelible.stream_changes.events IS
    'How many events were archived or erased; null for close and reopen.';
COMMENT ON COLUMN indelible.stream_changes.changed_by IS 'The role that was logged in.';
COMMENT ON COLUMN indelible.stream_changes.changed_at IS 'When its transaction began.';
COMMENT ON COLUMN indelible.stream_changes.reason IS 'The reason; null if none was given.';
COMMENT ON COLUMN indelible.stream_changes.transaction_id IS
    'The transaction that made the change, or imported it.';
COMMENT ON COLUMN indelible.stream_changes.noted_at IS
    'When that transaction began; later than changed_at if the change was imported.';

-- Not a child of events: appends would lock it, and no index covers both tables. Readers of all
-- events use the view. Columns that are added to events must be added here, too, in the same order.
CREATE TABLE indelible.archived_events (
    LIKE indelible.events INCLUDING COMMENTS INCLUDING CONSTRAINTS,
    CONSTRAINT archived_events_pkey PRIMARY KEY (position),
    CONSTRAINT archived_events_stream_version_key UNIQUE (stream_id, version),
    CONSTRAINT archived_events_id_key UNIQUE (id)
);
CREATE INDEX archived_events_valid_at_index ON indelible.archived_events (valid_at, position)
WHERE valid_at IS NOT NULL;
COMMENT ON TABLE indelible.archived_events IS
    'The events of archived streams, which take no more events.';

-- Appends check whether an archive exists. A sequence is read in an expression, and its value is
-- visible at once in every snapshot, before the first event is moved.
CREATE SEQUENCE indelible.archive_count;
COMMENT ON SEQUENCE indelible.archive_count IS
    'At least how often streams were archived; without a value if no event was ever archived.';

CREATE TABLE indelible.archive_lock (
    is_only boolean NOT NULL
);
COMMENT ON TABLE indelible.archive_lock IS
    'One row, which archive_stream() updates, so that a transaction with an older snapshot cannot lock it.';
COMMENT ON COLUMN indelible.archive_lock.is_only IS 'Always true: there is one row.';
INSERT INTO indelible.archive_lock (is_only) VALUES (true);


-- Epochs: the histories of the log ----------------------------------------------------------------

-- Without an index: it has a few rows, and the first append of a session would lock each index,
-- too.
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
    'The histories of this store. A new one begins when the log may have lost its last events in a failover or a restore.';
COMMENT ON COLUMN indelible.epochs.number IS 'The order of the epochs.';
COMMENT ON COLUMN indelible.epochs.epoch IS 'The random id that checkpoints carry.';
COMMENT ON COLUMN indelible.epochs.began_at IS 'When it began.';
COMMENT ON COLUMN indelible.epochs.last_position IS
    'The last assigned position when it began.';
COMMENT ON COLUMN indelible.epochs.safe_through IS
    'Up to this position the log is the same as in the previous epoch.';
COMMENT ON COLUMN indelible.epochs.timeline IS
    'The timeline of the server. It changes with each promotion and point-in-time recovery. Null if the server does not report it.';
COMMENT ON COLUMN indelible.epochs.system_identifier IS
    'The identifier of the cluster. It changes with initdb. Null if the server does not report it.';
COMMENT ON COLUMN indelible.epochs.database_oid IS
    'The oid of the database. A copy has another one. Null for an epoch that an operator began.';
COMMENT ON COLUMN indelible.epochs.events_oid IS
    'The oid of the table events. It changes when a dump is restored.';
COMMENT ON COLUMN indelible.epochs.server_started_at IS
    'The start time of the server that granted the leases of workers.';

CREATE TABLE indelible.settled (
    is_only boolean NOT NULL DEFAULT true,
    position bigint NOT NULL,
    noted_at timestamptz NOT NULL,
    CONSTRAINT settled_pkey PRIMARY KEY (is_only),
    CONSTRAINT settled_is_one_row CHECK (is_only)
)
-- Readers update the row in place.
WITH (fillfactor = 10);
COMMENT ON TABLE indelible.settled IS
    'One row at most: a position up to which the log was settled when the row was written. A server with this row has all events up to the position, because they are before the row in the write-ahead log.';
COMMENT ON COLUMN indelible.settled.is_only IS 'Always true: there is one row.';
COMMENT ON COLUMN indelible.settled.position IS 'The position.';
COMMENT ON COLUMN indelible.settled.noted_at IS 'When the row was written.';


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
    'The earliest recorded_at of its events; null without events.';
COMMENT ON COLUMN indelible.recorded_time_index.latest IS
    'The latest recorded_at of its events; null without events.';
COMMENT ON COLUMN indelible.recorded_time_index.latest_so_far IS
    'The latest recorded_at of all events up to here.';


-- Windows of the log ------------------------------------------------------------------------------

CREATE TABLE indelible.log_windows (
    position bigint NOT NULL,
    events bigint NOT NULL,
    earliest timestamptz,
    latest timestamptz,
    CONSTRAINT log_windows_pkey PRIMARY KEY (position)
);
COMMENT ON TABLE indelible.log_windows IS
    'One row per 10,000 settled positions, without gaps from the first: how many events they have. Readers with a filter add rows; appends do not.';
COMMENT ON COLUMN indelible.log_windows.position IS
    'The last of its positions: a multiple of 10,000.';
COMMENT ON COLUMN indelible.log_windows.events IS 'How many events it has.';
COMMENT ON COLUMN indelible.log_windows.earliest IS
    'The earliest recorded_at of its events; null without events.';
COMMENT ON COLUMN indelible.log_windows.latest IS
    'The latest recorded_at of its events; null without events.';

CREATE TABLE indelible.log_window_contents (
    type text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    CONSTRAINT log_window_contents_pkey PRIMARY KEY (type, position, channel)
);
CREATE INDEX log_window_contents_channel_index ON indelible.log_window_contents
    (channel, position);
COMMENT ON TABLE indelible.log_window_contents IS
    'The event types and channels of each window in log_windows. No row means that the window has no such event.';
COMMENT ON COLUMN indelible.log_window_contents.type IS 'The event type, as it is stored.';
COMMENT ON COLUMN indelible.log_window_contents.position IS 'The window: log_windows.position.';
COMMENT ON COLUMN indelible.log_window_contents.channel IS
    'The channel. Empty if the window has too many channels to list: then it may have any.';
COMMENT ON COLUMN indelible.log_window_contents.events IS
    'How many events of the window have this type and channel.';
COMMENT ON COLUMN indelible.log_window_contents.first_position IS 'The position of the first of them.';
COMMENT ON COLUMN indelible.log_window_contents.last_position IS 'The position of the last of them.';


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
    'States computed from a stream''s events up to a version: the latest of each kind. Rows may be deleted.';
COMMENT ON COLUMN indelible.snapshots.stream_id IS 'The stream: streams.id.';
COMMENT ON COLUMN indelible.snapshots.version IS 'The version of the last event that was known when it was taken.';
COMMENT ON COLUMN indelible.snapshots.by_valid_time IS
    'Whether the events were applied in order of valid time; otherwise in order of version.';
COMMENT ON COLUMN indelible.snapshots.valid_at IS
    'By valid time: the valid time of the last event in the state.';
COMMENT ON COLUMN indelible.snapshots.from_version IS
    'By valid time: the lowest version whose event is not in the state, for example because it is not valid yet.';
COMMENT ON COLUMN indelible.snapshots.taken_at IS 'When it was taken.';
COMMENT ON COLUMN indelible.snapshots.state IS 'The name of the state''s class.';
COMMENT ON COLUMN indelible.snapshots.fingerprint IS
    'A hash of the schemas of state and events and of the code. A snapshot is used only if its fingerprint matches the current code.';
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
COMMENT ON TABLE indelible.groups IS 'One row per consumer group, with its query and settings.';
COMMENT ON SEQUENCE indelible.groups_id_seq IS 'Assigns groups.id.';
COMMENT ON COLUMN indelible.groups.id IS 'The id of the group inside the database.';
COMMENT ON COLUMN indelible.groups.name IS 'The group''s name.';
COMMENT ON COLUMN indelible.groups.query IS 'The items of its query; null for every event.';
COMMENT ON COLUMN indelible.groups.partition_by IS
    'The key within which events are delivered in order: tag:KEY or metadata:FIELD; null for the stream.';
COMMENT ON COLUMN indelible.groups.start_position IS 'The position after which it began.';
COMMENT ON COLUMN indelible.groups.max_attempts IS 'After how many attempts an event is parked.';
COMMENT ON COLUMN indelible.groups.retry_seconds IS
    'The delay before the first retry; it doubles with each further retry.';
COMMENT ON COLUMN indelible.groups.lease_seconds IS
    'How long the lease of a worker lasts without a heartbeat.';
COMMENT ON COLUMN indelible.groups.park_blocks_stream IS
    'Whether the later events of a stream wait behind a parked one.';
COMMENT ON COLUMN indelible.groups.deliver_when_valid IS
    'Whether each event is delivered at its valid time.';
COMMENT ON COLUMN indelible.groups.last_token IS 'The last fencing token; later tokens are higher.';
COMMENT ON COLUMN indelible.groups.ended_token IS
    'Workers up to this token must join again, because the group was reset or changed, or the server was restarted.';
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
-- Each heartbeat updates one row in place.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.group_workers IS 'One row per worker that holds a lease.';
COMMENT ON COLUMN indelible.group_workers.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_workers.token IS
    'The fencing token. Writes of a worker are accepted only while this row exists.';
COMMENT ON COLUMN indelible.group_workers.name IS 'The display name: by default host and process.';
COMMENT ON COLUMN indelible.group_workers.instance IS
    'The random id of the worker. When it joins again, its slices under an older token are released.';
COMMENT ON COLUMN indelible.group_workers.round IS
    'How often its slices were rebalanced. The progress of a heartbeat from an earlier round is ignored.';
COMMENT ON COLUMN indelible.group_workers.checkpoint IS
    'Up to here the events of all its slices are finished, or have rows in group_events.';
COMMENT ON COLUMN indelible.group_workers.checkpoint_due IS
    'Of the events up to its checkpoint, those due up to here; null for all of them.';
COMMENT ON COLUMN indelible.group_workers.delivered IS
    'No event beyond this position was given to a handler.';
COMMENT ON COLUMN indelible.group_workers.delivered_due IS
    'No event due later was given to a handler; null if none had its own valid time.';
COMMENT ON COLUMN indelible.group_workers.joined_at IS 'When it joined.';
COMMENT ON COLUMN indelible.group_workers.expires_at IS 'When its lease expires.';

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
    'The 1,024 slices of a group. The hash of its key decides the slice of an event.';
COMMENT ON COLUMN indelible.group_slices.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_slices.slice IS 'The number of the slice.';
COMMENT ON COLUMN indelible.group_slices.token IS 'The worker that owns the slice; null without an owner.';
COMMENT ON COLUMN indelible.group_slices.position IS
    'Its events are finished up to here, or up to its worker''s checkpoint if that is higher.';
COMMENT ON COLUMN indelible.group_slices.due IS
    'Of the events up to its position, those due up to here, or up to its worker''s checkpoint; null for all of them.';
COMMENT ON COLUMN indelible.group_slices.suspect IS
    'Up to here an event may have been in progress when a worker died. An attempt is counted before such an event is delivered.';
COMMENT ON COLUMN indelible.group_slices.suspect_due IS
    'The same in order of valid time; null if no event with its own valid time may have been in progress.';

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
    'The events of a group that are in progress again, to be retried, parked, or queued behind one of these.';
COMMENT ON SEQUENCE indelible.group_events_number_seq IS 'Assigns group_events.number.';
COMMENT ON COLUMN indelible.group_events.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_events.number IS
    'The order in which the events of a key are delivered.';
COMMENT ON COLUMN indelible.group_events.position IS 'The event: events.position.';
COMMENT ON COLUMN indelible.group_events.slice IS 'The slice of its key.';
COMMENT ON COLUMN indelible.group_events.key IS 'Its partition key: its stream, tag or metadata field.';
COMMENT ON COLUMN indelible.group_events.state IS
    'in_progress: a handler has it, or had it when its worker died; retry: it waits for its next attempt; queued: it waits behind an earlier event of its key; parked: it waits for an operator.';
COMMENT ON COLUMN indelible.group_events.attempts IS 'How often it was given to a handler.';
COMMENT ON COLUMN indelible.group_events.not_before IS 'When it may be retried.';
COMMENT ON COLUMN indelible.group_events.reason IS 'Why it was parked or is retried.';
COMMENT ON COLUMN indelible.group_events.error IS 'The text of the last error.';
COMMENT ON COLUMN indelible.group_events.updated_at IS 'When this row was last written.';

CREATE TABLE indelible.group_leases (
    id uuid NOT NULL,
    group_id bigint NOT NULL,
    token bigint NOT NULL,
    client text,
    events jsonb NOT NULL,
    finished bigint[] NOT NULL DEFAULT '{}',
    failed bigint[] NOT NULL DEFAULT '{}',
    expires_at timestamptz NOT NULL,
    CONSTRAINT group_leases_pkey PRIMARY KEY (id),
    CONSTRAINT group_leases_worker_fkey
        FOREIGN KEY (group_id, token) REFERENCES indelible.group_workers ON DELETE CASCADE
);
CREATE INDEX group_leases_worker_index ON indelible.group_leases (group_id, token);
COMMENT ON TABLE indelible.group_leases IS
    'One row per batch of events that a worker has lent to a client of a server. It goes with the worker.';
COMMENT ON COLUMN indelible.group_leases.id IS 'The random id with which the client names it.';
COMMENT ON COLUMN indelible.group_leases.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_leases.token IS 'The worker that owns the events.';
COMMENT ON COLUMN indelible.group_leases.client IS 'The display name of the client.';
COMMENT ON COLUMN indelible.group_leases.events IS
    'What any process needs to record the outcome of each event: position, slice, key, attempt, and the progress of its slice with it.';
COMMENT ON COLUMN indelible.group_leases.finished IS 'The positions of the events that are finished.';
COMMENT ON COLUMN indelible.group_leases.failed IS
    'The positions of the events that are to be retried, or parked.';
COMMENT ON COLUMN indelible.group_leases.expires_at IS
    'When it expires; -infinity once its worker has taken back the events without an outcome.';


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
    'One row per build of a projection: the serving one, and one next to it during a rebuild.';
COMMENT ON SEQUENCE indelible.projections_id_seq IS 'Assigns projections.id.';
COMMENT ON COLUMN indelible.projections.id IS 'The id of the build inside the database.';
COMMENT ON COLUMN indelible.projections.name IS 'The projection''s name.';
COMMENT ON COLUMN indelible.projections.version IS
    'The version of its code. Each version has its own state.';
COMMENT ON COLUMN indelible.projections.kind IS
    'Where its state is: documents: in projection_documents; tables: in tables of the application; external: outside the database.';
COMMENT ON COLUMN indelible.projections.lifecycle IS
    'inline: appends update it; async: daemons that follow the log update it.';
COMMENT ON COLUMN indelible.projections.state IS
    'building: it cannot be read yet; serving: readers use it; retired: readers no longer use it.';
COMMENT ON COLUMN indelible.projections.query IS 'The items of its query.';
COMMENT ON COLUMN indelible.projections.partitions IS 'How many partitions are kept up to date in parallel.';
COMMENT ON COLUMN indelible.projections.indexes IS 'The fields of its documents that have an index.';
COMMENT ON COLUMN indelible.projections.created_at IS 'When it was created.';
COMMENT ON COLUMN indelible.projections.served_at IS 'When it began to serve.';
COMMENT ON COLUMN indelible.projections.retired_at IS 'When it stopped serving.';
COMMENT ON COLUMN indelible.projections.live_after IS
    'on_live is called for events above this position, which are new to its readers.';

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
-- Each batch updates one row in place.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.projection_partitions IS
    'The partitions of a projection, with the checkpoint and the owner of each.';
COMMENT ON COLUMN indelible.projection_partitions.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_partitions.partition IS
    'The number of the partition: 0 to projections.partitions - 1.';
COMMENT ON COLUMN indelible.projection_partitions.position IS
    'The checkpoint: its state includes its events up to here.';
COMMENT ON COLUMN indelible.projection_partitions.epoch IS
    'The epoch of the log that the checkpoint belongs to.';
COMMENT ON COLUMN indelible.projection_partitions.token IS
    'The fencing token, which grows with each lease. Writes under an older token are rejected.';
COMMENT ON COLUMN indelible.projection_partitions.owner IS
    'The worker that keeps it up to date: host and process; null without an owner.';
COMMENT ON COLUMN indelible.projection_partitions.lease_seconds IS
    'How long its owner''s lease lasts without a heartbeat.';
COMMENT ON COLUMN indelible.projection_partitions.expires_at IS
    'When the lease of its owner expires.';
COMMENT ON COLUMN indelible.projection_partitions.handled IS 'How many events it has handled.';
COMMENT ON COLUMN indelible.projection_partitions.attempts IS
    'How often the next batch has failed.';
COMMENT ON COLUMN indelible.projection_partitions.not_before IS 'When it may be retried.';
COMMENT ON COLUMN indelible.projection_partitions.is_stopped IS
    'Whether it is stopped and waits for an operator.';
COMMENT ON COLUMN indelible.projection_partitions.error IS 'The text of the last error.';
COMMENT ON COLUMN indelible.projection_partitions.error_position IS
    'The position of the event at which it failed; null if the error does not belong to a single event.';
COMMENT ON COLUMN indelible.projection_partitions.updated_at IS 'When this row was last written.';
COMMENT ON COLUMN indelible.projection_partitions.events_per_second IS
    'How many events it handled per second between the last two heartbeats of its owner.';
COMMENT ON COLUMN indelible.projection_partitions.rated_handled IS
    'How many events it had handled at the last of these heartbeats.';
COMMENT ON COLUMN indelible.projection_partitions.rated_at IS 'The time of that heartbeat.';

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
    'The parked events of projections: a projection skips them because its code failed at them.';
COMMENT ON COLUMN indelible.projection_parked.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_parked.position IS 'The event: events.position.';
COMMENT ON COLUMN indelible.projection_parked.partition IS 'The partition that skips it.';
COMMENT ON COLUMN indelible.projection_parked.error IS 'The text of the error.';
COMMENT ON COLUMN indelible.projection_parked.parked_at IS 'When it was parked.';
COMMENT ON COLUMN indelible.projection_parked.discarded_at IS
    'When an operator discarded it. The row stays, because it explains why the state lacks the event.';

CREATE TABLE indelible.projection_documents (
    projection_id bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT projection_documents_pkey PRIMARY KEY (projection_id, key)
)
PARTITION BY LIST (projection_id);
COMMENT ON TABLE indelible.projection_documents IS
    'The documents of projections. Each build has its own table documents_ID, which is a partition of this one.';
COMMENT ON COLUMN indelible.projection_documents.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_documents.key IS 'The key of the document.';
COMMENT ON COLUMN indelible.projection_documents.document IS 'The document.';
COMMENT ON COLUMN indelible.projection_documents.position IS
    'The position of the last event that changed it: events.position.';

CREATE TABLE indelible.projection_workers (
    name text COLLATE "C" NOT NULL,
    projections bigint[] NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT projection_workers_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE indelible.projection_workers IS
    'The processes that keep projections up to date, and the builds that each can run, so that the partitions are assigned evenly.';
COMMENT ON COLUMN indelible.projection_workers.name IS
    'Host, process and a random part; its partitions have this owner.';
COMMENT ON COLUMN indelible.projection_workers.projections IS
    'The builds that it has the code for: projections.id.';
COMMENT ON COLUMN indelible.projection_workers.expires_at IS
    'When its lease expires.';


-- Access ------------------------------------------------------------------------------------------

CREATE TABLE indelible.tokens (
    id text COLLATE "C" NOT NULL,
    name indelible.name NOT NULL,
    hash bytea NOT NULL,
    grants jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT tokens_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE indelible.tokens IS 'The tokens with which programs use the store through a server.';
COMMENT ON COLUMN indelible.tokens.id IS 'The part of the token that names it.';
COMMENT ON COLUMN indelible.tokens.name IS 'Who or what has it.';
COMMENT ON COLUMN indelible.tokens.hash IS 'SHA-256 of its secret, which has 256 random bits.';
COMMENT ON COLUMN indelible.tokens.grants IS
    'What it allows: a list of verbs, each list with a channel and a prefix of streams, or null for all.';
COMMENT ON COLUMN indelible.tokens.created_at IS 'When it was created.';
COMMENT ON COLUMN indelible.tokens.created_by IS 'The database role that created it.';
COMMENT ON COLUMN indelible.tokens.expires_at IS 'When it expires; null for never.';
COMMENT ON COLUMN indelible.tokens.revoked_at IS 'When it was revoked; null if it was not.';
COMMENT ON COLUMN indelible.tokens.last_used_at IS
    'When a server last accepted it, to the minute; null for never.';

CREATE TABLE indelible.sessions (
    hash bytea NOT NULL,
    token_id text COLLATE "C" NOT NULL,
    is_ticket boolean NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (hash),
    CONSTRAINT sessions_token_fkey FOREIGN KEY (token_id) REFERENCES indelible.tokens ON DELETE CASCADE
);
CREATE INDEX sessions_expires_at_index ON indelible.sessions (expires_at);
COMMENT ON TABLE indelible.sessions IS
    'What stands for a token in a browser: sessions, and tickets that work once.';
COMMENT ON COLUMN indelible.sessions.hash IS 'SHA-256 of its text, which has 256 random bits.';
COMMENT ON COLUMN indelible.sessions.token_id IS 'The token whose rights it has: tokens.id.';
COMMENT ON COLUMN indelible.sessions.is_ticket IS 'Whether it works once, and in an address.';
COMMENT ON COLUMN indelible.sessions.expires_at IS 'When it expires, at the latest with its token.';
