-- Who holds the head back, the epoch, and consumer groups: durable, named readers that workers
-- share. docs/explanation/consumer-groups.md tells why nothing is lost, whoever crashes when.

CREATE FUNCTION indelible.head_holders()
RETURNS TABLE (
    pid integer,
    application text,
    state text,
    seconds double precision,
    query text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        locks.pid,
        activity.application_name,
        coalesce(activity.state, 'prepared'),
        extract(epoch FROM clock_timestamp() - activity.xact_start),
        activity.query
    FROM indelible.head_locks AS locks
    LEFT JOIN pg_stat_activity AS activity USING (pid)
    ORDER BY activity.xact_start
$$;
COMMENT ON FUNCTION indelible.head_holders() IS
    'The transactions that appended and have not ended, the oldest first: the head stands before what they took.';

CREATE FUNCTION indelible.describe_transaction(of_pid integer)
RETURNS text
LANGUAGE sql
STABLE
AS $$
    SELECT coalesce(
        (
            SELECT
                format(
                    'process %s (%s, %s) in a transaction of %s s, last statement: %s',
                    of_pid,
                    coalesce(nullif(application_name, ''), 'without a name'),
                    coalesce(state, 'state not shown'),
                    round(extract(epoch FROM clock_timestamp() - xact_start)::numeric, 1),
                    left(regexp_replace(query, '\s+', ' ', 'g'), 100)
                )
            FROM pg_stat_activity
            WHERE pid = of_pid
        ),
        CASE WHEN of_pid IS NULL THEN 'a prepared transaction' ELSE 'process ' || of_pid END
    )
$$;
COMMENT ON FUNCTION indelible.describe_transaction(integer) IS
    'For messages: a session''s process, application, state, age of its transaction and last statement; null stands for a prepared transaction.';

-- For errors: what others wait for is held by one of these. Only reading takes no lock that counts.
CREATE FUNCTION indelible.lock_holders()
RETURNS TABLE (
    pid integer,
    application text,
    state text,
    seconds double precision,
    query text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        held.pid,
        activity.application_name,
        coalesce(activity.state, 'prepared'),
        extract(
            epoch FROM clock_timestamp() - coalesce(activity.xact_start, prepared.prepared)
        ),
        coalesce(activity.query, prepared.gid)
    FROM (
        SELECT DISTINCT locks.pid, locks.virtualtransaction
        FROM pg_locks AS locks
        JOIN pg_class AS relations ON relations.oid = locks.relation
        JOIN pg_database AS databases ON databases.oid = locks.database
        WHERE locks.granted
            AND locks.mode <> 'AccessShareLock'
            AND databases.datname = current_database()
            AND relations.relnamespace = (
                SELECT relnamespace FROM pg_class WHERE oid = 'indelible.events'::regclass
            )
    ) AS held
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
    LEFT JOIN pg_prepared_xacts AS prepared
        ON held.pid IS NULL AND held.virtualtransaction = '-1/' || prepared.transaction::text
    WHERE held.pid IS DISTINCT FROM pg_backend_pid()
    ORDER BY coalesce(activity.xact_start, prepared.prepared)
    LIMIT 3
$$;
COMMENT ON FUNCTION indelible.lock_holders() IS
    'The open transactions that hold locks of the store, at most three, the oldest first.';


-- Epochs: which history of the log this is (docs/explanation/what-happens-when.md) --------------------------

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
CREATE FUNCTION indelible.incarnation(
    OUT timeline integer,
    OUT system_identifier bigint,
    OUT database_oid oid,
    OUT events_oid oid
)
LANGUAGE plpgsql
STABLE
AS $$
BEGIN
    -- A file is in the folder of its database. The catalog of databases would be locked.
    database_oid := split_part(pg_relation_filepath('indelible.events'), '/', -2);
    events_oid := 'indelible.events'::regclass;
    BEGIN
        timeline := ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer;
        system_identifier := (SELECT control.system_identifier FROM pg_control_system() AS control);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        -- Some managed services do not say: then the ids of events alone tell histories apart.
        NULL;
    END;
END
$$;
COMMENT ON FUNCTION indelible.incarnation() IS
    'What tells this copy of the log from another one.';

INSERT INTO indelible.epochs (
    number, last_position, safe_through, timeline, system_identifier, database_oid, events_oid
)
SELECT 1, 0, 0, today.timeline, today.system_identifier, today.database_oid, today.events_oid
FROM indelible.incarnation() AS today;

CREATE FUNCTION indelible.is_same_incarnation(known indelible.epochs)
RETURNS boolean
LANGUAGE sql
STABLE
AS $$
    -- What is not known on either side proves nothing.
    SELECT coalesce(known.timeline = today.timeline, true)
        AND coalesce(known.system_identifier = today.system_identifier, true)
        AND coalesce(known.database_oid = today.database_oid, true)
        AND coalesce(known.events_oid = today.events_oid, true)
    FROM indelible.incarnation() AS today
$$;
COMMENT ON FUNCTION indelible.is_same_incarnation(indelible.epochs) IS
    'Whether an epoch is of this copy of the log.';

CREATE FUNCTION indelible.begin_epoch(is_by_operator boolean)
RETURNS uuid
LANGUAGE plpgsql
-- Whoever comes at the same time waits for the one that begins it, and not without end.
SET lock_timeout = '5s'
AS $$
DECLARE
    known indelible.epochs;
    is_same boolean;
    begun uuid;
    behind record;
BEGIN
    LOCK TABLE indelible.epochs IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO known FROM indelible.epochs ORDER BY number DESC LIMIT 1;
    is_same := indelible.is_same_incarnation(known);
    IF is_same AND known.server_started_at = pg_postmaster_start_time() AND NOT is_by_operator THEN
        RETURN known.epoch;  -- somebody else was first
    END IF;
    -- What workers have in memory may be of another history, also if only a disk was copied back: they
    -- begin again from their rows, whenever another server runs than the one that they have met.
    -- In a strict transaction, whose snapshot may be older than an epoch that others have begun, the
    -- server refuses this.
    UPDATE indelible.epochs
    SET server_started_at = pg_postmaster_start_time()
    WHERE number = known.number;
    UPDATE indelible.groups SET ended_token = last_token WHERE ended_token < last_token;
    UPDATE indelible.group_workers SET expires_at = '-infinity' WHERE expires_at > '-infinity';
    UPDATE indelible.projection_partitions
    SET token = token + 1, owner = NULL, expires_at = '-infinity'
    WHERE owner IS NOT NULL;
    -- Where the clock of this server is behind, nothing waits for longer than it was meant to.
    UPDATE indelible.group_events
    SET not_before = clock_timestamp() + greatest(not_before - updated_at, interval '0'),
        updated_at = clock_timestamp()
    WHERE updated_at > clock_timestamp();
    UPDATE indelible.projection_partitions
    SET not_before = clock_timestamp() + greatest(not_before - updated_at, interval '0'),
        updated_at = clock_timestamp()
    WHERE updated_at > clock_timestamp() AND not_before > '-infinity';
    IF is_same AND NOT is_by_operator THEN
        RETURN known.epoch;
    END IF;
    -- Logical replication does not carry sequences. Nobody takes anything of them before this.
    LOOP
        behind := indelible.store_problem('indelible.events');
        EXIT WHEN behind.problem IS DISTINCT FROM 'sequence behind';
        PERFORM setval(behind.subject::regclass, behind.number);
    END LOOP;
    INSERT INTO indelible.epochs (
        number, last_position, safe_through, timeline, system_identifier, database_oid, events_oid
    )
    SELECT
        known.number + 1,
        coalesce(pg_sequence_last_value('indelible.events_position'), 0),
        -- The row was written by the history before, and came here with all that it vouches for.
        -- Of what an operator has restored nobody knows which history wrote it.
        CASE WHEN is_by_operator THEN 0 ELSE coalesce((SELECT position FROM indelible.settled), 0)
        END,
        today.timeline,
        today.system_identifier,
        today.database_oid,
        today.events_oid
    FROM indelible.incarnation() AS today
    RETURNING epoch INTO begun;
    RETURN begun;
END
$$;
COMMENT ON FUNCTION indelible.begin_epoch(boolean) IS
    'Begins an epoch, unless the last one is of this copy of the log; or in any case, for an operator. All leases end, also if the server was only started again.';

CREATE FUNCTION indelible.is_epoch_known()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    -- A session ends before its server can become another one: it asks once.
    setting constant text := 'indelible_epoch.known_' || indelible.lock_number();
    known indelible.epochs;
BEGIN
    IF current_setting(setting, true) = 'yes' THEN
        RETURN true;
    END IF;
    SELECT * INTO known FROM indelible.epochs ORDER BY number DESC LIMIT 1;
    IF known.server_started_at <> pg_postmaster_start_time()
        OR NOT indelible.is_same_incarnation(known)
    THEN
        RETURN false;
    END IF;
    RETURN set_config(setting, 'yes', false) = 'yes';
END
$$;
COMMENT ON FUNCTION indelible.is_epoch_known() IS
    'Whether the last epoch is of this copy of the log, and the leases of this run of the server.';

CREATE FUNCTION indelible.check_epoch()
RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT indelible.is_epoch_known() THEN
        PERFORM indelible.begin_epoch(false);
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.check_epoch() IS
    'Begins an epoch where this is another copy of the log. Called before the first position is taken, and before the head is told.';

CREATE FUNCTION indelible.epoch()
RETURNS uuid
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_is_in_recovery() THEN
        PERFORM indelible.check_epoch();
    END IF;
    RETURN (SELECT epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1);
END
$$;
COMMENT ON FUNCTION indelible.epoch() IS 'The epoch of today.';

CREATE FUNCTION indelible.renew_epoch()
RETURNS uuid
LANGUAGE sql
AS $$
    SELECT indelible.begin_epoch(true)
$$;
COMMENT ON FUNCTION indelible.renew_epoch() IS
    'Begins a new epoch: after a restore that neither timeline nor system identifier tells.';

CREATE FUNCTION indelible.head_state(
    OUT head bigint, OUT epoch uuid, OUT event_id uuid
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    head := indelible.head();
    epoch := (SELECT epochs.epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1);
    event_id := (SELECT id FROM indelible.all_events WHERE position = head);
END
$$;
COMMENT ON FUNCTION indelible.head_state() IS
    'The settled position, the epoch that it is of, and the id of the event there.';

CREATE FUNCTION indelible.may_read(
    of_epoch uuid, anchor_position bigint, anchor_id uuid
)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the log is not read on a standby, which may lag behind the head'
        USING ERRCODE = 'IND03', HINT = 'Read the log from the primary server.';
    END IF;
    IF of_epoch IS NOT NULL AND NOT (
        indelible.is_epoch_known()
        AND of_epoch = (SELECT epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1)
        -- A copied disk has the same epoch.
        AND (
            anchor_id IS NULL
            OR EXISTS (
                SELECT FROM indelible.all_events
                WHERE position = anchor_position AND id = anchor_id
            )
        )
    ) THEN
        RAISE EXCEPTION 'the log is of another epoch than the one that was read'
        USING ERRCODE = 'IND06';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.may_read(uuid, bigint, uuid) IS
    'Raises IND06 if the epoch is no longer the last one, or an event that the reader knows is not at its position; IND03 on a standby. So a page is read from the log that the reader has read.';

CREATE FUNCTION indelible.note_settled()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settled_now bigint;
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        RETURN;
    END IF;
    settled_now := indelible.head();
    -- The order in the write-ahead log is what counts, and not when it reaches the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO indelible.settled AS known (position, noted_at)
    VALUES (settled_now, clock_timestamp())
    ON CONFLICT ON CONSTRAINT settled_pkey DO UPDATE
    SET position = excluded.position, noted_at = excluded.noted_at
    WHERE known.position < excluded.position;
END
$$;
COMMENT ON FUNCTION indelible.note_settled() IS
    'Notes the settled position in the table settled. Readers call it about once a second while the log grows.';

CREATE FUNCTION indelible.check_checkpoint(
    of_epoch uuid,
    at_position bigint,
    anchor_position bigint,
    anchor_id uuid,
    OUT is_good boolean,
    OUT epoch uuid,
    OUT safe_through bigint,
    OUT last_position bigint
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own integer;
    today integer;
BEGIN
    PERFORM indelible.check_epoch();
    SELECT epochs.number, epochs.epoch INTO today, epoch
    FROM indelible.epochs ORDER BY epochs.number DESC LIMIT 1;
    last_position := coalesce(pg_sequence_last_value('indelible.events_position'), 0);
    SELECT epochs.number INTO own FROM indelible.epochs WHERE epochs.epoch = of_epoch;
    -- Of an epoch that this log does not know it says nothing: it was restored to before it.
    IF own < today THEN
        SELECT min(epochs.safe_through) INTO safe_through
        FROM indelible.epochs WHERE epochs.number > own;
    END IF;
    is_good := EXISTS (
        SELECT FROM indelible.all_events WHERE position = anchor_position AND id = anchor_id
    );
    IF NOT is_good THEN
        is_good := coalesce(at_position <= safe_through, false)
            -- Of this epoch, and without an event that could be missing.
            OR coalesce(own = today, false) AND anchor_id IS NULL
                AND at_position <= last_position;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.check_checkpoint(uuid, bigint, bigint, uuid) IS
    'Whether a reader that came to a position in an epoch may go on from there: the log is the same up to it, by what each epoch since vouches for, or since the event that it carries is where it was. Else the position up to which the reader is safe; null where none is known.';


-- Up to where a group came in order of valid time; rows compare as wholes, first by the moment.
CREATE TYPE indelible.due_key AS (moment timestamptz, "position" bigint);
COMMENT ON TYPE indelible.due_key IS
    'A place in the order in which facts become due: a valid time, and a position for those of the same.';

CREATE FUNCTION indelible.due_key_at(moment timestamptz, at_position bigint)
RETURNS indelible.due_key
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN moment IS NOT NULL THEN ROW(moment, at_position)::indelible.due_key END;
COMMENT ON FUNCTION indelible.due_key_at(timestamptz, bigint) IS
    'The key of a moment and a position; null where there is no moment.';


CREATE TABLE indelible.groups (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    query jsonb,
    partition_by text,
    start_position bigint NOT NULL,
    max_attempts integer NOT NULL,
    retry_seconds double precision NOT NULL,
    lease_seconds double precision NOT NULL,
    hold_back boolean NOT NULL,
    due boolean NOT NULL,
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
COMMENT ON COLUMN indelible.groups.ended_token IS
    'Workers up to this token begin anew: the group was reset or changed, or the server was started.';
COMMENT ON COLUMN indelible.groups.max_attempts IS 'After how many attempts an event is parked.';
COMMENT ON COLUMN indelible.groups.retry_seconds IS
    'How long the first retry waits; each one after it twice as long.';
COMMENT ON COLUMN indelible.groups.lease_seconds IS
    'After how long without a beat a worker is taken for dead.';
COMMENT ON COLUMN indelible.groups.hold_back IS
    'Whether the later events of a stream wait behind a parked one.';
COMMENT ON COLUMN indelible.groups.due IS
    'Whether each event is handed out when its valid time comes.';
COMMENT ON COLUMN indelible.groups.last_token IS 'The last fencing token: they only grow.';
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
-- Every beat updates one row in place.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.group_workers IS 'One row a worker that holds a lease.';
COMMENT ON COLUMN indelible.group_workers.group_id IS 'The group: groups.id.';
COMMENT ON COLUMN indelible.group_workers.token IS
    'The fencing token: what a worker writes counts only while this row stands.';
COMMENT ON COLUMN indelible.group_workers.name IS 'Host and process, for people.';
COMMENT ON COLUMN indelible.group_workers.instance IS
    'The random id of the worker: when it joins anew, what it had under an older token is freed.';
COMMENT ON COLUMN indelible.group_workers.round IS
    'How often its slices were dealt anew: a beat of an earlier round does not count.';
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
    CONSTRAINT group_events_state CHECK (state IN ('running', 'retry', 'queued', 'parked'))
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
    'running: with a handler, or was when its worker died; retry: waits for its time; queued: waits behind an earlier one of its key; parked: waits for an operator.';
COMMENT ON COLUMN indelible.group_events.attempts IS 'How often it was handed to a handler.';
COMMENT ON COLUMN indelible.group_events.not_before IS 'When it may be tried again.';
COMMENT ON COLUMN indelible.group_events.reason IS 'Why it was parked or is tried again.';
COMMENT ON COLUMN indelible.group_events.error IS 'The text of the last error.';
COMMENT ON COLUMN indelible.group_events.updated_at IS 'When this row was written last.';

CREATE FUNCTION indelible.partition_key(
    partition_by text, stream text, tags text[], metadata jsonb
)
RETURNS text
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN coalesce(
    CASE
        WHEN partition_by IS NULL THEN stream
        WHEN starts_with(partition_by, 'tag:') THEN (
            SELECT min(tag) FROM unnest(tags) AS given (tag)
            WHERE starts_with(tag, substr(partition_by, 5) || ':')
        )
        ELSE metadata ->> substr(partition_by, 10)
    END,
    stream
);
COMMENT ON FUNCTION indelible.partition_key(text, text, text[], jsonb) IS
    'What keeps an event in order with others: its stream, or a tag or field of its metadata where the event has it.';

CREATE FUNCTION indelible.slice_of(key text)
RETURNS smallint
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN (hashtextextended(key, 0) & 1023)::smallint;
COMMENT ON FUNCTION indelible.slice_of(text) IS 'The slice, 0 to 1023, that a key falls into.';


CREATE FUNCTION indelible.group_begin(
    after_position bigint, since timestamptz, OUT begins bigint, OUT begins_due indelible.due_key
)
LANGUAGE plpgsql
AS $$
DECLARE
    settled constant bigint := indelible.head();
    last_position constant bigint := (SELECT last_value FROM indelible.events_position);
BEGIN
    IF after_position > last_position THEN
        RAISE EXCEPTION 'position % is beyond the last position, %', after_position, last_position
        USING ERRCODE = 'IND04',
            HINT = 'It is another store''s, or this store was restored to an earlier time: begin after a position that both have, or at the head.';
    END IF;
    begins := coalesce(after_position, settled);
    begins_due := indelible.due_key_at(
        least(
            coalesce(
                since,
                (
                    SELECT recorded_at FROM indelible.all_events
                    WHERE position <= after_position
                    ORDER BY position DESC
                    LIMIT 1
                )
            ),
            clock_timestamp()
        ),
        0
    );
END
$$;
COMMENT ON FUNCTION indelible.group_begin(bigint, timestamptz) IS
    'Where a group begins: after a position, or (null) the head; and of what stands before, with what is due from a moment on, or (null) from when that position was the last; from now on at the head.';

CREATE FUNCTION indelible.group_create(
    group_name text,
    items jsonb,
    partitioned_by text,
    after_position bigint,
    since timestamptz,
    attempts integer,
    retry_after double precision,
    lease double precision,
    holds_back boolean,
    is_due boolean
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    start constant record := indelible.group_begin(after_position, since);
    created_id bigint;
BEGIN
    INSERT INTO indelible.groups (
        name, query, partition_by, start_position, max_attempts, retry_seconds, lease_seconds,
        hold_back, due
    )
    VALUES (
        group_name, items, partitioned_by, start.begins, attempts, retry_after, lease, holds_back,
        is_due
    )
    ON CONFLICT ON CONSTRAINT groups_name_key DO NOTHING
    RETURNING id INTO created_id;
    IF created_id IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO indelible.group_slices (group_id, slice, position, due)
    SELECT created_id, number, start.begins, CASE WHEN is_due THEN start.begins_due END
    FROM generate_series(0, 1023) AS slices (number);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_create(text, jsonb, text, bigint, timestamptz, integer, double precision, double precision, boolean, boolean) IS
    'Creates a group that begins as group_begin says. False where it is there already.';

CREATE FUNCTION indelible.group_change(
    group_name text,
    items jsonb,
    partitioned_by text,
    attempts integer,
    retry_after double precision,
    lease double precision,
    holds_back boolean,
    is_due boolean
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
BEGIN
    SELECT id, partition_by, due INTO found
    FROM indelible.groups WHERE name = group_name FOR NO KEY UPDATE;
    IF found.partition_by IS DISTINCT FROM partitioned_by THEN
        RAISE EXCEPTION 'group % is partitioned by %', group_name,
            coalesce(found.partition_by, 'stream')
        USING ERRCODE = 'IND04',
            HINT = 'What keeps events in order is fixed at creation: create another group.';
    END IF;
    IF found.due <> is_due THEN
        RAISE EXCEPTION 'group % % wait for valid times', group_name,
            CASE WHEN found.due THEN 'does' ELSE 'does not' END
        USING ERRCODE = 'IND04',
            HINT = 'Whether events wait until they are due is fixed at creation: create another group.';
    END IF;
    UPDATE indelible.groups
    SET query = items, max_attempts = attempts, retry_seconds = retry_after,
        lease_seconds = lease, hold_back = holds_back, ended_token = last_token
    WHERE id = found.id;
    -- Workers read with the query that they joined with: they join anew.
    UPDATE indelible.group_workers SET expires_at = '-infinity' WHERE group_id = found.id;
    PERFORM indelible.group_bury(found.id);
END
$$;
COMMENT ON FUNCTION indelible.group_change(text, jsonb, text, integer, double precision, double precision, boolean, boolean) IS
    'Gives a group another query or other settings from where it stands; its workers join anew.';

CREATE FUNCTION indelible.group_delete(group_name text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- First the rows that a worker holds while it writes, which then needs the group's.
    DELETE FROM indelible.group_workers
    USING indelible.groups
    WHERE groups.name = group_name AND group_workers.group_id = groups.id;
    DELETE FROM indelible.groups WHERE name = group_name;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION indelible.group_delete(text) IS
    'Deletes a group with all that is noted for it; false where there is none.';

CREATE FUNCTION indelible.group_reset(group_name text, after_position bigint, since timestamptz)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    start constant record := indelible.group_begin(after_position, since);
    reset_id bigint;
    is_due boolean;
BEGIN
    -- Not FOR UPDATE, for which the foreign keys of what workers write would have to wait, and the
    -- workers' rows after that for each other.
    SELECT id, due INTO reset_id, is_due
    FROM indelible.groups WHERE name = group_name FOR NO KEY UPDATE;
    IF reset_id IS NULL THEN
        RETURN NULL;
    END IF;
    -- Without their rows the workers of today write nothing more; they join anew.
    UPDATE indelible.groups SET ended_token = last_token WHERE id = reset_id;
    DELETE FROM indelible.group_workers WHERE group_id = reset_id;
    UPDATE indelible.group_slices
    SET token = NULL, position = start.begins, suspect = 0, suspect_due = NULL,
        due = CASE WHEN is_due THEN start.begins_due END
    WHERE group_id = reset_id;
    DELETE FROM indelible.group_events AS noted
    WHERE noted.group_id = reset_id
        AND (
            noted.position > start.begins
            OR is_due AND EXISTS (
                SELECT FROM indelible.all_events AS events
                WHERE events.position = noted.position
                    AND events.valid_at <> events.recorded_at
                    AND events.valid_at >= (start.begins_due).moment
            )
        );
    RETURN start.begins;
END
$$;
COMMENT ON FUNCTION indelible.group_reset(text, bigint, timestamptz) IS
    'Sends a group to a place as group_begin says. What was noted of events after it is forgotten: they come again.';


-- Leases --------------------------------------------------------------------------------------

CREATE FUNCTION indelible.group_lease_over(of_group bigint, of_token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM indelible.groups WHERE id = of_group AND ended_token >= of_token) THEN
        RAISE EXCEPTION 'the group was reset or changed, or the server was started again'
        USING ERRCODE = 'IND05',
            HINT = 'Nothing of this transaction was stored: the worker begins anew by itself.';
    END IF;
    RAISE EXCEPTION 'the lease of worker % is over', of_token
    USING ERRCODE = 'IND05';
END
$$;
COMMENT ON FUNCTION indelible.group_lease_over(bigint, bigint) IS
    'Raises IND05, with a hint where an operator or a start of the server ended the lease.';

-- Whoever writes for a group holds its worker's row meanwhile, and whoever buries a worker deletes
-- that row first: so one of the two comes first, and the other sees it.
CREATE FUNCTION indelible.group_fence(of_group bigint, of_token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    lease double precision;
BEGIN
    PERFORM indelible.check_epoch();
    SELECT groups.lease_seconds INTO lease
    FROM indelible.group_workers AS workers
    JOIN indelible.groups ON groups.id = workers.group_id
    WHERE workers.group_id = of_group AND workers.token = of_token
        AND workers.expires_at > clock_timestamp()
    FOR KEY SHARE OF workers;
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_over(of_group, of_token);
    END IF;
    -- A client that is stopped or cut off before its commit would hold the row for ever.
    PERFORM set_config(
        'idle_in_transaction_session_timeout', ceil(greatest(lease, 1) * 1000)::text, true
    );
END
$$;
COMMENT ON FUNCTION indelible.group_fence(bigint, bigint) IS
    'Raises IND05 unless the worker''s lease stands, and keeps it standing until the transaction ends: a client that is silent for longer than the lease loses the transaction.';

CREATE FUNCTION indelible.group_bury(of_group bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    dead record;
BEGIN
    FOR dead IN
        SELECT token, checkpoint, checkpoint_due, delivered, delivered_due
        FROM indelible.group_workers
        WHERE group_id = of_group AND expires_at <= clock_timestamp()
        FOR UPDATE SKIP LOCKED
    LOOP
        DELETE FROM indelible.group_workers WHERE group_id = of_group AND token = dead.token;
        UPDATE indelible.group_slices
        SET token = NULL,
            position = greatest(position, dead.checkpoint),
            due = greatest(due, dead.checkpoint_due),
            suspect_due = greatest(suspect_due, dead.delivered_due),
            -- It may have said so in advance: what is yet to be written was handed to nobody.
            suspect = greatest(suspect, least(
                dead.delivered, (SELECT last_value FROM indelible.events_position)
            ))
        WHERE group_id = of_group AND token = dead.token;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.group_bury(bigint) IS
    'Takes their slices from workers whose lease is over.';

CREATE FUNCTION indelible.group_join(
    group_name text,
    worker_name text,
    of_instance uuid,
    OUT group_id bigint,
    OUT token bigint,
    OUT epoch uuid
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
    lease double precision;
BEGIN
    PERFORM indelible.check_epoch();
    epoch := (SELECT epochs.epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1);
    UPDATE indelible.groups
    SET last_token = last_token + 1
    WHERE name = group_name
    RETURNING id, last_token, lease_seconds INTO group_id, token, lease;
    IF group_id IS NULL THEN
        RETURN;
    END IF;
    -- Joins of a group come one after the other from here on. What this worker had before is freed
    -- at once: it lost its lease without a burial, or did not hear of an earlier call of this.
    UPDATE indelible.group_workers AS former
    SET expires_at = '-infinity'
    WHERE former.group_id = group_join.group_id AND former.token IN (
        SELECT same.token FROM indelible.group_workers AS same
        WHERE same.group_id = group_join.group_id AND same.instance = of_instance
        FOR NO KEY UPDATE SKIP LOCKED
    );
    PERFORM indelible.group_bury(group_id);
    INSERT INTO indelible.group_workers (group_id, token, name, instance, expires_at)
    VALUES (
        group_id, token, worker_name, of_instance,
        clock_timestamp() + make_interval(secs => lease)
    );
END
$$;
COMMENT ON FUNCTION indelible.group_join(text, text, uuid) IS
    'Gives a worker a token higher than all before it, and ends those that it had; says the epoch of the log that it reads. Nulls where there is no such group.';

CREATE FUNCTION indelible.group_beat(
    of_group bigint,
    of_token bigint,
    of_round integer,
    at_checkpoint bigint,
    at_checkpoint_moment timestamptz,
    at_checkpoint_place bigint,
    has_delivered bigint,
    has_delivered_moment timestamptz,
    has_delivered_place bigint,
    slices smallint[],
    positions bigint[],
    moments timestamptz[],
    places bigint[],
    OUT share integer,
    OUT unowned integer
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    PERFORM indelible.check_epoch();
    -- A beat lost in a crash of the server costs a second delivery, which may happen anyway.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.group_workers
    SET expires_at = clock_timestamp() + make_interval(secs => groups.lease_seconds),
        -- The highest of a round: a beat may be sent twice, and come late.
        checkpoint = greatest(checkpoint, at_checkpoint),
        checkpoint_due = greatest(
            checkpoint_due, indelible.due_key_at(at_checkpoint_moment, at_checkpoint_place)
        ),
        delivered = greatest(delivered, has_delivered),
        delivered_due = greatest(
            delivered_due, indelible.due_key_at(has_delivered_moment, has_delivered_place)
        )
    FROM indelible.groups
    WHERE groups.id = of_group
        AND group_workers.group_id = of_group
        AND group_workers.token = of_token
        AND group_workers.round = of_round
        AND group_workers.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_over(of_group, of_token);
    END IF;
    -- What is finished above the checkpoint, where one event keeps that down for long. A handler
    -- whose transaction is about to commit has its slice's row: a sign of life waits for nobody.
    IF cardinality(slices) > 0 THEN
        WITH free AS (
            SELECT held.slice FROM indelible.group_slices AS held
            WHERE held.group_id = of_group AND held.token = of_token
                AND held.slice = ANY(slices)
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE indelible.group_slices AS owned
        SET position = greatest(owned.position, given.position),
            due = greatest(owned.due, indelible.due_key_at(given.moment, given.place))
        FROM unnest(slices, positions, moments, places) AS given (slice, position, moment, place)
        JOIN free USING (slice)
        WHERE owned.group_id = of_group AND owned.token = of_token AND owned.slice = given.slice;
    END IF;
    PERFORM indelible.group_bury(of_group);
    SELECT ceil(1024.0 / count(*)) INTO share
    FROM indelible.group_workers WHERE group_id = of_group;
    SELECT count(*) INTO unowned
    FROM indelible.group_slices WHERE group_id = of_group AND token IS NULL;
END
$$;
COMMENT ON FUNCTION indelible.group_beat(bigint, bigint, integer, bigint, timestamptz, bigint, bigint, timestamptz, bigint, smallint[], bigint[], timestamptz[], bigint[]) IS
    'Renews a lease and notes how far the worker is; says how many slices are its share, and how many belong to nobody. Raises IND05 where the lease is over.';

CREATE FUNCTION indelible.group_renew_lease(of_group bigint, of_token bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.group_workers AS worker
    SET expires_at = clock_timestamp() + make_interval(secs => groups.lease_seconds)
    FROM indelible.groups
    WHERE groups.id = of_group
        AND (worker.group_id, worker.token) IN (
            -- One that is locked is at a write of its own, which renews its lease, or is buried.
            SELECT alive.group_id, alive.token
            FROM indelible.group_workers AS alive
            WHERE alive.group_id = of_group AND alive.token = of_token
                AND alive.expires_at > clock_timestamp()
            FOR NO KEY UPDATE SKIP LOCKED
        );
    RETURN FOUND OR EXISTS (
        SELECT FROM indelible.group_workers
        WHERE group_id = of_group AND token = of_token AND expires_at > clock_timestamp()
    );
END
$$;
COMMENT ON FUNCTION indelible.group_renew_lease(bigint, bigint) IS
    'Renews a lease and does nothing else, and never waits; says whether the lease stands.';

CREATE FUNCTION indelible.group_deal(
    of_group bigint,
    of_token bigint,
    of_round integer,
    slices smallint[],
    positions bigint[],
    moments timestamptz[],
    places bigint[],
    given_back smallint[],
    wanted integer
)
RETURNS TABLE (
    slice smallint,
    after_position bigint,
    due indelible.due_key,
    suspect bigint,
    suspect_due indelible.due_key
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
DECLARE
    stands_at integer;
BEGIN
    PERFORM indelible.check_epoch();
    SELECT round INTO stands_at
    FROM indelible.group_workers
    WHERE group_id = of_group AND token = of_token AND round IN (of_round, of_round + 1)
        AND expires_at > clock_timestamp()
    -- Not FOR UPDATE, for which handlers that are about to commit would have to be waited for: what
    -- they write holds their slices.
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_over(of_group, of_token);
    END IF;
    IF stands_at = of_round THEN
        -- Each slice's own place is written down, since the checkpoint of all is about to go back to
        -- the lowest of the slices that come.
        UPDATE indelible.group_slices AS owned
        SET position = greatest(owned.position, given.position),
            due = greatest(owned.due, indelible.due_key_at(given.moment, given.place)),
            token = CASE WHEN owned.slice = ANY(given_back) THEN NULL ELSE owned.token END
        FROM unnest(slices, positions, moments, places) AS given (slice, position, moment, place)
        WHERE owned.group_id = of_group AND owned.token = of_token AND owned.slice = given.slice
            -- Not the others: a handler that is about to commit has the row of its slice.
            AND (
                owned.slice = ANY(given_back)
                OR given.position > owned.position
                OR greatest(owned.due, indelible.due_key_at(given.moment, given.place))
                    IS DISTINCT FROM owned.due
            );
        UPDATE indelible.group_slices AS taken
        SET token = of_token
        WHERE taken.group_id = of_group AND taken.slice IN (
            SELECT free.slice
            FROM indelible.group_slices AS free
            WHERE free.group_id = of_group AND free.token IS NULL
                AND NOT free.slice = ANY(given_back)
            ORDER BY free.slice
            LIMIT wanted
            FOR UPDATE SKIP LOCKED
        );
        UPDATE indelible.group_workers
        SET round = of_round + 1,
            checkpoint = coalesce((
                SELECT min(owned.position) FROM indelible.group_slices AS owned
                WHERE owned.group_id = of_group AND owned.token = of_token
            ), 0),
            checkpoint_due = (
                SELECT owned.due FROM indelible.group_slices AS owned
                WHERE owned.group_id = of_group AND owned.token = of_token
                ORDER BY owned.due
                LIMIT 1
            )
        WHERE group_id = of_group AND token = of_token;
    END IF; -- otherwise the same call once more, after an answer that was lost
    RETURN QUERY
        SELECT owned.slice, owned.position, owned.due, owned.suspect, owned.suspect_due
        FROM indelible.group_slices AS owned
        WHERE owned.group_id = of_group AND owned.token = of_token;
END
$$;
COMMENT ON FUNCTION indelible.group_deal(bigint, bigint, integer, smallint[], bigint[], timestamptz[], bigint[], smallint[], integer) IS
    'Writes down the places of a worker''s slices, gives some back, takes some that belong to nobody; returns all that it has then. The same call once more returns that again. Raises IND05 where the lease is over.';

CREATE FUNCTION indelible.group_leave(
    of_group bigint,
    of_token bigint,
    slices smallint[],
    positions bigint[],
    moments timestamptz[],
    places bigint[]
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    PERFORM indelible.check_epoch();
    PERFORM FROM indelible.group_workers
    WHERE group_id = of_group AND token = of_token AND expires_at > clock_timestamp()
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN; -- it has left, or others take over
    END IF;
    -- Also those that it was dealt and did not hear of, which stand where they stood.
    UPDATE indelible.group_slices AS owned
    SET token = NULL,
        position = greatest(owned.position, given.position),
        due = greatest(owned.due, indelible.due_key_at(given.moment, given.place))
    FROM (
        SELECT had.slice, told.position, told.moment, told.place
        FROM indelible.group_slices AS had
        LEFT JOIN unnest(slices, positions, moments, places)
            AS told (slice, position, moment, place) USING (slice)
        WHERE had.group_id = of_group AND had.token = of_token
    ) AS given
    WHERE owned.group_id = of_group AND owned.token = of_token AND owned.slice = given.slice;
    DELETE FROM indelible.group_workers WHERE group_id = of_group AND token = of_token;
END
$$;
COMMENT ON FUNCTION indelible.group_leave(bigint, bigint, smallint[], bigint[], timestamptz[], bigint[]) IS
    'Gives all slices back at their places, and ends the lease.';


-- Events that are not simply finished -----------------------------------------------------------

-- The events of a slice are handed out in order: when one is finished, or gets a row, those before
-- it are finished or have rows. That is written down in the same transaction, so that after a crash
-- neither it nor anything of that comes again. So whatever has a row was handed out before what has
-- none, and the numbers of the rows of a key are the order in which they were.
CREATE FUNCTION indelible.group_pass(
    of_group bigint,
    in_slice smallint,
    upto bigint,
    upto_moment timestamptz,
    upto_place bigint
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE indelible.group_slices
    SET position = greatest(position, upto),
        due = greatest(due, indelible.due_key_at(upto_moment, upto_place))
    WHERE group_id = of_group AND slice = in_slice AND upto IS NOT NULL;
END
$$;
COMMENT ON FUNCTION indelible.group_pass(bigint, smallint, bigint, timestamptz, bigint) IS
    'Writes down up to where the events of a slice are finished; nulls move nothing. The caller holds the slice.';

CREATE FUNCTION indelible.group_hold(
    of_group bigint,
    of_token bigint,
    at_position bigint,
    in_slice smallint,
    is_noted boolean,
    due_moment timestamptz
)
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    stands record;
BEGIN
    PERFORM indelible.group_fence(of_group, of_token);
    -- First the lock, then the look, in a later statement: the handler may be about to finish the
    -- event in a transaction of which it only heard that the connection was lost.
    SELECT position, due INTO stands
    FROM indelible.group_slices
    WHERE group_id = of_group AND slice = in_slice AND token = of_token
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the event at position % belongs to another worker now', at_position
        USING ERRCODE = 'IND05';
    END IF;
    RETURN EXISTS (
        SELECT FROM indelible.group_events WHERE group_id = of_group AND position = at_position
    ) OR NOT is_noted AND (
        stands.position >= at_position
        AND (due_moment IS NULL OR stands.due >= indelible.due_key_at(due_moment, at_position))
    ) IS NOT TRUE;
END
$$;
COMMENT ON FUNCTION indelible.group_hold(bigint, bigint, bigint, smallint, boolean, timestamptz) IS
    'Holds a worker''s lease and the slice of an event until the transaction ends; false where the event is finished. Raises IND05 where either is another''s.';

CREATE FUNCTION indelible.group_attempt(
    of_group bigint,
    of_token bigint,
    at_position bigint,
    in_slice smallint,
    of_key text,
    is_noted boolean,
    made_attempt integer,
    due_moment timestamptz,
    upto bigint,
    upto_moment timestamptz,
    upto_place bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
BEGIN
    IF NOT indelible.group_hold(
        of_group, of_token, at_position, in_slice, is_noted, due_moment
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.group_pass(of_group, in_slice, upto, upto_moment, upto_place);
    INSERT INTO indelible.group_events AS noted
        (group_id, position, slice, key, state, attempts, not_before)
    VALUES (of_group, at_position, in_slice, of_key, 'running', made_attempt, clock_timestamp())
    ON CONFLICT ON CONSTRAINT group_events_pkey DO UPDATE
    SET state = 'running', attempts = excluded.attempts, updated_at = clock_timestamp()
    -- Otherwise the same call once more, after an answer that was lost.
    WHERE noted.attempts < excluded.attempts;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_attempt(bigint, bigint, bigint, smallint, text, boolean, integer, timestamptz, bigint, timestamptz, bigint) IS
    'Counts an attempt before the handler has the event, so that one that kills its worker is found out; false where the event is finished.';

CREATE FUNCTION indelible.group_note(
    of_group bigint,
    of_token bigint,
    at_position bigint,
    in_slice smallint,
    of_key text,
    is_noted boolean,
    new_state text,
    made_attempts integer,
    delay double precision,
    why text,
    error_text text,
    due_moment timestamptz,
    upto bigint,
    upto_moment timestamptz,
    upto_place bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
BEGIN
    IF NOT indelible.group_hold(
        of_group, of_token, at_position, in_slice, is_noted, due_moment
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.group_pass(of_group, in_slice, upto, upto_moment, upto_place);
    -- Whoever erases a stream holds its row, then removes what is noted of its events: either that
    -- has happened, or it waits for this and then finds it. The text may repeat what is erased.
    PERFORM FROM indelible.streams
    WHERE id = (SELECT stream_id FROM indelible.recorded_events WHERE position = at_position)
    FOR KEY SHARE;
    IF EXISTS (
        SELECT FROM indelible.recorded_events WHERE position = at_position AND data IS NULL
    ) THEN
        DELETE FROM indelible.group_events WHERE group_id = of_group AND position = at_position;
        RETURN false;
    END IF;
    INSERT INTO indelible.group_events
        (group_id, position, slice, key, state, attempts, not_before, reason, error)
    VALUES (
        of_group, at_position, in_slice, of_key, new_state, made_attempts,
        clock_timestamp() + make_interval(secs => delay), why, error_text
    )
    ON CONFLICT ON CONSTRAINT group_events_pkey DO UPDATE
    SET state = excluded.state, attempts = excluded.attempts, not_before = excluded.not_before,
        reason = excluded.reason, error = excluded.error, updated_at = clock_timestamp();
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_note(bigint, bigint, bigint, smallint, text, boolean, text, integer, double precision, text, text, timestamptz, bigint, timestamptz, bigint) IS
    'Notes an event to be tried again, or parked; false where it is finished after all, or erased.';

CREATE FUNCTION indelible.group_queue(
    of_group bigint,
    of_token bigint,
    at_position bigint,
    in_slice smallint,
    of_key text,
    due_moment timestamptz,
    upto bigint,
    upto_moment timestamptz,
    upto_place bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
DECLARE
    queued boolean;
BEGIN
    IF NOT indelible.group_hold(
        of_group, of_token, at_position, in_slice, false, due_moment
    ) THEN
        RETURN true;
    END IF;
    INSERT INTO indelible.group_events
        (group_id, position, slice, key, state, attempts, not_before)
    SELECT of_group, at_position, in_slice, of_key, 'queued', 0, clock_timestamp()
    WHERE EXISTS (
        SELECT
        FROM indelible.group_events AS earlier
        JOIN indelible.groups ON groups.id = earlier.group_id
        WHERE earlier.group_id = of_group AND earlier.key = of_key
            AND earlier.position <> at_position
            AND (groups.hold_back OR earlier.state <> 'parked')
    )
    ON CONFLICT ON CONSTRAINT group_events_pkey DO NOTHING;
    queued := EXISTS (
        SELECT FROM indelible.group_events
        WHERE group_id = of_group AND position = at_position
    );
    IF queued THEN
        PERFORM indelible.group_pass(of_group, in_slice, upto, upto_moment, upto_place);
    END IF;
    RETURN queued;
END
$$;
COMMENT ON FUNCTION indelible.group_queue(bigint, bigint, bigint, smallint, text, timestamptz, bigint, timestamptz, bigint) IS
    'Queues an event behind an earlier one of its key; false where none is left to wait for. True where it is finished: there is nothing left to be done.';

CREATE FUNCTION indelible.group_finish(
    of_group bigint,
    of_token bigint,
    at_position bigint,
    in_slice smallint,
    is_noted boolean,
    due_moment timestamptz,
    upto bigint,
    upto_moment timestamptz,
    upto_place bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    IF NOT indelible.group_hold(
        of_group, of_token, at_position, in_slice, is_noted, due_moment
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.group_pass(of_group, in_slice, upto, upto_moment, upto_place);
    IF NOT is_noted THEN
        RETURN true;
    END IF;
    DELETE FROM indelible.group_events
    WHERE group_id = of_group AND position = at_position AND state = 'running';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the event at position % is not at work', at_position
        USING ERRCODE = 'IND05';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_finish(bigint, bigint, bigint, smallint, boolean, timestamptz, bigint, timestamptz, bigint) IS
    'Finishes one event, in the transaction of the caller: with it, or not at all. False where it was finished before.';

CREATE FUNCTION indelible.group_replay(group_name text, at_position bigint, of_key text)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE indelible.group_events AS noted
    SET state = 'retry', attempts = 0, not_before = clock_timestamp(),
        reason = 'replayed by an operator', updated_at = clock_timestamp()
    FROM indelible.groups
    WHERE groups.name = group_name AND noted.group_id = groups.id AND noted.state = 'parked'
        AND (at_position IS NULL OR noted.position = at_position)
        AND (of_key IS NULL OR noted.key = of_key);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION indelible.group_replay(text, bigint, text) IS
    'Has parked events tried again: one, those of a key, or (both null) all. Returns how many.';

CREATE FUNCTION indelible.group_discard(group_name text, at_position bigint, of_key text)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bigint;
BEGIN
    DELETE FROM indelible.group_events AS noted
    USING indelible.groups
    WHERE groups.name = group_name AND noted.group_id = groups.id AND noted.state = 'parked'
        AND (at_position IS NULL OR noted.position = at_position)
        AND (of_key IS NULL OR noted.key = of_key);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION indelible.group_discard(text, bigint, text) IS
    'Gives parked events up: one, those of a key, or (both null) all. Returns how many.';

CREATE FUNCTION indelible.group_firsts(of_group bigint, holds_back boolean)
RETURNS TABLE (
    key text,
    "position" bigint,
    slice smallint,
    state text,
    attempts integer,
    not_before timestamptz
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    -- From key to key by the index: thousands may be queued behind each.
    WITH RECURSIVE firsts AS (
        (
            SELECT noted.key, noted.position, noted.slice, noted.state, noted.attempts,
                noted.not_before
            FROM indelible.group_events AS noted
            WHERE noted.group_id = of_group AND (holds_back OR noted.state <> 'parked')
            ORDER BY noted.key, noted.number
            LIMIT 1
        )
        UNION ALL
        SELECT later.*
        FROM firsts
        CROSS JOIN LATERAL (
            SELECT noted.key, noted.position, noted.slice, noted.state, noted.attempts,
                noted.not_before
            FROM indelible.group_events AS noted
            WHERE noted.group_id = of_group AND noted.key > firsts.key
                AND (holds_back OR noted.state <> 'parked')
            ORDER BY noted.key, noted.number
            LIMIT 1
        ) AS later
    )
    SELECT firsts.* FROM firsts
$$;
COMMENT ON FUNCTION indelible.group_firsts(bigint, boolean) IS
    'The first noted event of each key: later ones of the key wait for it. Parked ones are left out where they hold nothing back.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
