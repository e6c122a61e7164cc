-- The store: its tables, and the functions that keep its guarantees.
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

CREATE FUNCTION indelible.schema_version()
RETURNS integer
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(version) FROM indelible.migrations
$$;
COMMENT ON FUNCTION indelible.schema_version() IS
    'The number of the last migration applied: what a library compares with its own.';


-- Streams and events -------------------------------------------------------------------------

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
    CONSTRAINT streams_pkey PRIMARY KEY (id),
    CONSTRAINT streams_name_key UNIQUE (name)
)
-- Every append updates one row in place: half-empty pages keep that a heap-only update.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.streams IS
    'One row a stream. Its row lock serialises the writers of that stream and of no other.';
COMMENT ON SEQUENCE indelible.streams_id_seq IS 'Hands out streams.id.';
COMMENT ON COLUMN indelible.streams.id IS 'A short name for the stream inside the database.';
COMMENT ON COLUMN indelible.streams.version IS 'The version of the stream''s last event.';
COMMENT ON COLUMN indelible.streams.name IS 'The stream''s name: delivery-7f3c…';
COMMENT ON COLUMN indelible.streams.channel IS
    'The service that owns the stream; fixed by the stream''s first append.';

-- MINVALUE 0 and a first value taken here: "handed out so far" is last_value from the start.
CREATE SEQUENCE indelible.events_position MINVALUE 0 START 0;
COMMENT ON SEQUENCE indelible.events_position IS 'Hands out positions. It never goes back.';
SELECT nextval('indelible.events_position');

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
    CONSTRAINT events_pkey PRIMARY KEY (position),
    CONSTRAINT events_stream_version_key UNIQUE (stream_id, version),
    CONSTRAINT events_id_key UNIQUE (id)
);
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
COMMENT ON COLUMN indelible.events.data IS 'The fact itself.';
COMMENT ON COLUMN indelible.events.metadata IS 'What is known about the event; null for nothing.';
COMMENT ON COLUMN indelible.events.tags IS 'Labels key:value; null for none.';
COMMENT ON COLUMN indelible.events.valid_at IS
    'When the fact holds in the world; null where that is recorded_at.';

-- Writing through any other path than the functions below is refused for everyone, the owner
-- included, and also where session_replication_role switches ordinary triggers off.
CREATE FUNCTION indelible.refuse_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% of %.% is refused: what is written stands',
        tg_op, tg_table_schema, tg_table_name
    USING ERRCODE = 'IND01',
        HINT = 'Events are immutable. Append an event that corrects the earlier one.';
END
$$;
COMMENT ON FUNCTION indelible.refuse_change() IS
    'Raises IND01: the trigger that keeps stored events as they are.';

CREATE TRIGGER events_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.events
FOR EACH STATEMENT EXECUTE FUNCTION indelible.refuse_change();
ALTER TABLE indelible.events ENABLE ALWAYS TRIGGER events_are_immutable;

CREATE TRIGGER streams_are_kept
BEFORE UPDATE OF id, name, channel OR TRUNCATE ON indelible.streams
FOR EACH STATEMENT EXECUTE FUNCTION indelible.refuse_change();
ALTER TABLE indelible.streams ENABLE ALWAYS TRIGGER streams_are_kept;

-- A row at version -1 never had an event: it is a lock that append_many takes back.
CREATE TRIGGER written_streams_are_kept
BEFORE DELETE ON indelible.streams
FOR EACH ROW WHEN (old.version >= 0) EXECUTE FUNCTION indelible.refuse_change();
ALTER TABLE indelible.streams ENABLE ALWAYS TRIGGER written_streams_are_kept;


-- The settled position (docs/explanation/ordering.md) ----------------------------------------

-- Every appender holds this one, and a weak lock on a table costs next to nothing: the server keeps
-- it with the session. It is a table of its own because vacuum locks tables that hold something.
CREATE TABLE indelible.append_gate ();
COMMENT ON TABLE indelible.append_gate IS
    'Holds nothing. Whoever appends locks it, weakly; a condition without tags locks it against them.';

-- Advisory locks share one space per database, so each store has a number of its own in the top
-- bits of its keys, written into a function as a constant. Two stores must not share one: each would
-- hold back the other's head.
CREATE VIEW indelible.lock_numbers AS
SELECT
    functions.pronamespace AS schema_id,
    functions.oid AS function_id,
    substring(functions.prosrc, '^SELECT ([0-9]+)::bigint$')::bigint AS number
FROM pg_proc AS functions
WHERE functions.proname = 'lock_number';
COMMENT ON VIEW indelible.lock_numbers IS
    'The numbers that all stores of the database have, as take_lock_number() wrote them: everybody may read the catalog.';

CREATE FUNCTION indelible.take_lock_number()
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    -- Begun somewhere else by each, so that the number of a store that was dropped is not soon another's.
    first_choice constant bigint := 'indelible.events'::regclass::oid::bigint % 32767;
    free bigint;
BEGIN
    -- One at a time in the database; the statement after this one sees what others took.
    PERFORM pg_advisory_xact_lock(hashtextextended('indelible lock numbers', 0));
    SELECT choice.number INTO free
    FROM (
        SELECT (first_choice + place) % 32767 + 1 AS number, place
        FROM generate_series(0, 32766) AS places (place)
    ) AS choice
    WHERE NOT EXISTS (
        SELECT
        FROM indelible.lock_numbers AS taken
        WHERE taken.number = choice.number
    )
    ORDER BY choice.place
    LIMIT 1;
    IF free IS NULL THEN
        RAISE EXCEPTION 'all 32,767 lock numbers of this database are taken by other stores'
        USING ERRCODE = 'IND04', HINT = 'Make the store in another database.';
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION indelible.lock_number() RETURNS bigint LANGUAGE sql'
        ' IMMUTABLE PARALLEL SAFE AS %L',
        format('SELECT %s::bigint', free)
    );
END
$$;
COMMENT ON FUNCTION indelible.take_lock_number() IS
    'Gives the store a number that no other store of the database has. Nobody may be at work in it meanwhile.';
SELECT indelible.take_lock_number();
COMMENT ON FUNCTION indelible.lock_number() IS
    'This store''s number in the keys of its advisory locks: key = number << 48 | position.';

CREATE FUNCTION indelible.hold_head()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    -- The setting is local to the transaction and is undone by a rollback to a savepoint, as the
    -- lock is. It names the transaction: what was set before it, by whomever, says nothing.
    setting constant text := 'indelible_holds.head_' || indelible.lock_number()::text;
    this_one constant text := pg_current_xact_id()::text || ' ';
    key bigint;
    held text;
BEGIN
    IF starts_with(current_setting(setting, true), this_one) THEN
        -- The lock is held already, and to take it again costs next to nothing: so whoever made the
        -- note up in the middle of its transaction holds a lock as well, that is old enough.
        key := least(
            coalesce(pg_sequence_last_value('indelible.events_position'), 0),
            greatest(0, substr(current_setting(setting), length(this_one) + 1)::bigint)
        );
        held := pg_advisory_xact_lock_shared(indelible.lock_number() << 48 | key)::text;
        RETURN false;
    END IF;
    IF current_setting('indelible_epoch.known_' || indelible.lock_number()::text, true)
        IS DISTINCT FROM 'yes'
    THEN
        PERFORM indelible.check_epoch();
    END IF;
    -- What is acknowledged is on this server's disk, whatever role and database are set to.
    IF current_setting('synchronous_commit') = 'off' THEN
        held := set_config('synchronous_commit', 'local', true);
    END IF;
    -- An expression: the statement that reads the sequence as a table takes three times as long.
    -- Null where the sequence was restarted: nothing was handed out. A key that is too old loses
    -- nothing, but takes the head back to it: so it is read last.
    key := coalesce(pg_sequence_last_value('indelible.events_position'), 0);
    held := pg_advisory_xact_lock_shared(indelible.lock_number() << 48 | key)::text
        || set_config(setting, this_one || key, true);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.hold_head() IS
    'Says, until the transaction ends, that positions after the last one handed out may still appear. Called after the lock on append_gate, before a transaction takes its first position; false where it has said so before.';

-- Any login may take advisory locks. Those of whoever may not lock the gate count for nothing: an
-- appender locks that first. (The lock of the gate is looked for in the same look, which begins after
-- the reader knows the last position handed out: who locks the gate later takes later positions.)
CREATE VIEW indelible.head_locks AS
WITH locks AS MATERIALIZED (
    SELECT
        pid,
        locktype = 'advisory' AS is_key,
        (classid::bigint & 65535) << 32 | objid::bigint AS position
    FROM pg_locks
    WHERE granted
        AND (
            locktype = 'advisory'
            AND objsubid = 1
            AND mode = 'ShareLock'
            AND classid::bigint >> 16 = indelible.lock_number()
            OR relation = 'indelible.append_gate'::regclass
        )
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT pid, position
FROM locks
WHERE is_key
    AND (
        pid IN (SELECT pid FROM locks WHERE NOT is_key)
        -- PREPARE TRANSACTION hands over the two locks one after the other, to nobody's process.
        OR pid IS NULL
        OR EXISTS (SELECT FROM locks WHERE NOT is_key AND pid IS NULL)
    );
COMMENT ON VIEW indelible.head_locks IS
    'The transactions that hold the head back: their processes (null where prepared), and the last position handed out before theirs.';

CREATE FUNCTION indelible.head()
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    handed_out bigint;
    held bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'the head is of no use in a % transaction: its snapshot may be older',
            current_setting('transaction_isolation')
        USING ERRCODE = 'IND02', HINT = 'Read the log in a READ COMMITTED transaction.';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the head is not known on a standby: the locks of writers are not there'
        USING ERRCODE = 'IND03', HINT = 'Read the log from the primary server.';
    END IF;
    PERFORM indelible.check_epoch();
    -- The order of these two statements is the guarantee; see docs/explanation/ordering.md.
    SELECT last_value INTO handed_out FROM indelible.events_position;
    SELECT min(position) INTO held FROM indelible.head_locks;
    -- Not beyond the last event that stands: positions taken by a transaction that was undone are
    -- not safe on disk, and after a crash they are handed out anew.
    RETURN coalesce((
        SELECT max(position) FROM indelible.all_events WHERE position <= least(handed_out, held)
    ), 0);
END
$$;
COMMENT ON FUNCTION indelible.head() IS
    'The settled position: at and below it nothing can appear any more. Read up to it in a later statement.';


-- Append --------------------------------------------------------------------------------------
-- The columns, tables, views and functions named here that are not above come with tags (0003) and
-- with time (0006): nothing is called before all migrations are applied.

CREATE FUNCTION indelible.insert_events(
    stream_id bigint,
    first_version bigint,
    new_ids uuid[],
    new_events jsonb,
    OUT last_position bigint,
    OUT recorded_at timestamptz
)
LANGUAGE plpgsql
AS $$
DECLARE
    -- A call in an expression costs a fraction of one in a statement.
    is_first boolean := indelible.hold_head();
BEGIN
    recorded_at := clock_timestamp();
    INSERT INTO indelible.events
        (position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at)
    SELECT
        nextval('indelible.events_position'),
        insert_events.stream_id,
        first_version + place - 1,
        insert_events.recorded_at,
        new_ids[place],
        event ->> 'type',
        event -> 'data',
        event -> 'metadata',
        CASE WHEN event ? 'tags'
            THEN ARRAY(SELECT jsonb_array_elements_text(event -> 'tags'))
        END,
        (event ->> 'valid_at')::timestamptz
    FROM jsonb_array_elements(new_events) WITH ORDINALITY AS given (event, place)
    ORDER BY place;
    -- In a later statement than the INSERT: docs/explanation/stream-lifecycle.md tells why.
    IF pg_sequence_last_value('indelible.archives') IS NOT NULL THEN
        PERFORM indelible.check_archive(new_ids);
    END IF;
    last_position := currval('indelible.events_position');
    IF jsonb_path_exists(new_events, '$[*].tags[*]') THEN
        INSERT INTO indelible.event_tags (tag, position)
        SELECT DISTINCT tag, events.position
        FROM indelible.events
        CROSS JOIN LATERAL unnest(events.tags) AS given (tag)
        WHERE events.stream_id = insert_events.stream_id AND events.version >= first_version;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.insert_events(bigint, bigint, uuid[], jsonb) IS
    'Writes events, whose ids stand in an array, at versions that the caller has already secured.';

CREATE FUNCTION indelible.wait_at_commit()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A transaction that wrote nothing to the WAL waits for nothing.
    PERFORM pg_logical_emit_message(true, 'indelible', ''::text);
END
$$;
COMMENT ON FUNCTION indelible.wait_at_commit() IS
    'Has this transaction wait, when it commits, for the disk and for synchronous standbys to have all that it has seen. Called where events are said to be stored that another transaction stored: its own wait may have been cancelled.';

CREATE FUNCTION indelible.recall(
    appends jsonb,
    OUT known bigint,
    OUT is_retry boolean,
    OUT results jsonb,
    OUT duplicates jsonb
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    -- One row an event given: what stands under its id, and whether it is what is given now.
    WITH given AS (
        SELECT
            entry,
            place,
            item ->> 'stream' AS stream,
            (item ->> 'expected')::bigint AS expected,
            event
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, entry),
            jsonb_array_elements(item -> 'events') WITH ORDINALITY AS events (event, place)
    ),
    found AS (
        SELECT
            given.entry,
            given.place,
            given.event ->> 'id' AS id,
            stored.position,
            stored.version,
            stored.recorded_at,
            streams.name AS stream,
            streams.name = given.stream
                -- Without gaps, over all parts of the list that are of one stream.
                AND stored.version - row_number() OVER of_stream + 1
                    = first_value(stored.version) OVER of_stream
                AND (given.expected < -1 OR stored.version - given.place = given.expected)
                AS same_place,
            stored.type = given.event ->> 'type'
                -- Of an erased event nobody knows any more what it was.
                AND (
                    stored.erasure IS NOT NULL
                    OR stored.data = given.event -> 'data'
                    AND coalesce(stored.metadata, '{}') = coalesce(given.event -> 'metadata', '{}')
                )
                AND coalesce(to_jsonb(stored.tags), '[]') = coalesce(given.event -> 'tags', '[]')
                AND stored.valid_at IS NOT DISTINCT FROM (given.event ->> 'valid_at')::timestamptz
                AS same_content
        FROM given
        LEFT JOIN indelible.all_events AS stored ON stored.id = (given.event ->> 'id')::uuid
        LEFT JOIN indelible.streams ON streams.id = stored.stream_id
        WINDOW of_stream AS (PARTITION BY given.stream ORDER BY given.entry, given.place)
    )
    SELECT
        count(position),
        coalesce(bool_and(position IS NOT NULL AND same_place AND same_content), false),
        jsonb_object_agg(
            entry,
            jsonb_build_object('version', version, 'position', position, 'recorded_at', recorded_at)
            -- In order of place the last one of an entry stays: its last event.
            ORDER BY place
        ),
        jsonb_agg(
            jsonb_build_object(
                'id', id, 'stream', stream, 'version', version, 'same_content', same_content
            )
            ORDER BY entry, place
        ) FILTER (WHERE position IS NOT NULL)
    INTO known, is_retry, results, duplicates
    FROM found;
    IF is_retry THEN
        PERFORM indelible.wait_at_commit();
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.recall(jsonb) IS
    'Looks up the ids of events that were refused: a retry of an append that succeeded, or duplicates.';

CREATE FUNCTION indelible.last_event(of_stream bigint, at_version bigint)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object('id', id, 'recorded_at', recorded_at)
        FROM indelible.all_events
        WHERE stream_id = of_stream AND version = at_version
    );
END
$$;
COMMENT ON FUNCTION indelible.last_event(bigint, bigint) IS
    'The id and time that a wrong expected version is reported with.';

CREATE FUNCTION indelible.refuse_append(
    stream_name text,
    stream_channel text,
    expected_version bigint,
    new_events jsonb,
    OUT outcome text,
    OUT last_version bigint,
    OUT last_position bigint,
    OUT recorded_at timestamptz,
    OUT facts jsonb
)
LANGUAGE plpgsql
AS $$
DECLARE
    stream record;
    recalled record;
BEGIN
    SELECT streams.id, streams.version, streams.channel, streams.closed_at INTO stream
    FROM indelible.streams
    WHERE streams.name = stream_name;
    IF stream.channel <> stream_channel THEN
        outcome := 'channel_mismatch';
        facts := jsonb_build_object('channel', stream.channel);
        RETURN;
    END IF;

    SELECT * INTO recalled
    FROM indelible.recall(jsonb_build_array(jsonb_build_object(
        'stream', stream_name, 'expected', expected_version, 'events', new_events
    )));
    IF recalled.is_retry THEN
        outcome := 'idempotent';
        last_version := recalled.results -> '1' -> 'version';
        last_position := recalled.results -> '1' -> 'position';
        recorded_at := recalled.results -> '1' ->> 'recorded_at';
    ELSIF recalled.known > 0 THEN
        outcome := 'duplicate';
        facts := recalled.duplicates;
    ELSIF stream.closed_at IS NOT NULL THEN
        outcome := 'closed';
        last_version := stream.version;
        facts := jsonb_build_object('closed_at', stream.closed_at);
    ELSE
        outcome := 'wrong_version';
        last_version := coalesce(stream.version, -1);
        facts := indelible.last_event(stream.id, last_version);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.refuse_append(text, text, bigint, jsonb) IS
    'Why an append was refused, or the first result where it is a retry.';

CREATE FUNCTION indelible.append(
    stream_name text,
    stream_channel text,
    expected_version bigint,
    new_events jsonb,
    OUT outcome text,
    OUT last_version bigint,
    OUT last_position bigint,
    OUT recorded_at timestamptz,
    OUT facts jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are made once a session, and for every function that is called from here. One made while
-- a table was small would read it whole for long after it has grown: they are held to look up one row
-- after the other in an index, without bitmaps, which take longer to set up.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    added constant bigint := jsonb_array_length(new_events);
    -- ["…", "…"] is {"…", "…"} to an array: an expression, which a query is many times dearer than.
    new_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(new_events, '$[*].id')::text, '[', '{'), ']', '}'
        );
    -- An expression, as in hold_head().
    has_archive constant boolean := pg_sequence_last_value('indelible.archives') IS NOT NULL;
    found_id bigint;
    written record;
BEGIN
    IF expected_version < -1 AND expected_version NOT IN (-2, -4) OR expected_version IS NULL THEN
        RAISE EXCEPTION 'expected version % is not known', expected_version
        USING ERRCODE = 'IND04',
            HINT = 'Pass a version, -1 (no stream), -2 (any) or -4 (stream exists).';
    END IF;
    IF added = 0 THEN
        RAISE EXCEPTION 'there is nothing to append to stream %', stream_name
        USING ERRCODE = 'IND04', HINT = 'A pure check of a version is append_many with no events.';
    END IF;

    -- Before the stream's row: locks are taken in one order by all.
    IF jsonb_path_exists(new_events, '$[*].tags[*]') THEN
        PERFORM indelible.lock_for_append(
            indelible.each_once(jsonb_path_query_array(new_events, '$[*].tags[*]'))
        );
    ELSE
        LOCK TABLE indelible.append_gate IN ROW EXCLUSIVE MODE;
    END IF;
    LOOP
        -- The optimistic lock: the row lock lets the writers of this stream through one by one,
        -- and each finds the version that the one before it left.
        IF expected_version <> -1 THEN
            UPDATE indelible.streams
            SET version = streams.version + added
            WHERE streams.name = stream_name
                AND streams.closed_at IS NULL
                AND (expected_version < 0 OR streams.version = expected_version)
                AND (stream_channel IS NULL OR streams.channel = stream_channel)
            RETURNING streams.id, streams.version INTO found_id, last_version;
            -- The ids are asked for after the row lock, so that a retry sees the original that it
            -- raced with, and before positions are taken, so that a refusal burns none.
            IF found_id IS NOT NULL THEN  -- apart, so that it stays an expression
                IF EXISTS (SELECT FROM indelible.events WHERE events.id = ANY(new_ids))
                    OR has_archive AND indelible.archived_ids(new_ids) <> '{}'
                THEN
                    UPDATE indelible.streams
                    SET version = streams.version - added
                    WHERE streams.id = found_id;
                    found_id := NULL;
                END IF;
            END IF;
        END IF;
        IF found_id IS NULL AND expected_version IN (-1, -2) THEN
            INSERT INTO indelible.streams (name, channel, version)
            SELECT
                stream_name, coalesce(stream_channel, split_part(stream_name, '-', 1)), added - 1
            WHERE NOT EXISTS (SELECT FROM indelible.events WHERE events.id = ANY(new_ids))
                AND NOT (has_archive AND indelible.archived_ids(new_ids) <> '{}')
            ON CONFLICT ON CONSTRAINT streams_name_key DO NOTHING
            RETURNING streams.id, streams.version INTO found_id, last_version;
        END IF;
        EXIT WHEN found_id IS NOT NULL;

        SELECT refused.* INTO outcome, last_version, last_position, recorded_at, facts
        FROM indelible.refuse_append(
            stream_name, stream_channel, expected_version, new_events
        ) AS refused;
        -- Another writer may have made the stream, or brought it to the expected version, since.
        IF outcome = 'wrong_version' AND (
            last_version = expected_version
            OR expected_version = -2
            OR expected_version = -4 AND last_version >= 0
        ) THEN
            CONTINUE;
        END IF;
        RETURN;
    END LOOP;

    written := indelible.insert_events(found_id, last_version - added + 1, new_ids, new_events);
    last_position := written.last_position;
    recorded_at := written.recorded_at;
    outcome := 'appended';
END
$$;
COMMENT ON FUNCTION indelible.append(text, text, bigint, jsonb) IS
    'Appends events to one stream. Outcome: appended; idempotent (a retry: the first result); wrong_version, channel_mismatch or duplicate (nothing is written, facts say why). Expected: a version, -1 no stream, -2 any, -4 stream exists.';


CREATE FUNCTION indelible.append_many(appends jsonb)
RETURNS TABLE (
    place bigint,
    outcome text,
    last_version bigint,
    last_position bigint,
    recorded_at timestamptz,
    facts jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are made once a session, and for every function that is called from here. One made while
-- a table was small would read it whole for long after it has grown: they are held to look up one row
-- after the other in an index, without bitmaps, which take longer to set up.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    item jsonb;
    stream record;
    recalled record;
    expected bigint;
    added bigint;
    refused boolean := false;
    -- The stream as the list goes on, in which it may stand more than once.
    at_name text;
    at_version bigint;
    new_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(appends, '$[*].events[*].id')::text, '[', '{'), ']', '}'
        );
    is_retry boolean := false;
    is_known boolean := false;
    written record;
    -- The stream of an entry, and how many events of later entries it has.
    of_stream bigint;
    later bigint;
    made_id bigint;
    made bigint[] := '{}';
BEGIN
    -- Before the rows of streams: locks are taken in one order by all.
    PERFORM indelible.lock_for_append(
        indelible.each_once(jsonb_path_query_array(appends, '$[*].events[*].tags[*]'))
    );
    -- All rows are locked in one order before the first is looked at, so that two such calls
    -- never wait for each other in a circle. A stream that is not there is made, its new row
    -- being the lock, and is taken away below where nothing was appended to it.
    FOR stream IN
        SELECT DISTINCT ON (name)
            (given ->> 'stream') COLLATE "C" AS name,
            given ->> 'channel' AS channel
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (given, place)
        ORDER BY name, jsonb_array_length(given -> 'events') = 0, place
    LOOP
        LOOP
            PERFORM FROM indelible.streams
            WHERE streams.name = stream.name
            FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO indelible.streams (name, channel, version)
            VALUES (
                stream.name,
                -- A pure check needs no channel, and a name may begin with the dash.
                coalesce(stream.channel, nullif(split_part(stream.name, '-', 1), ''), '-'),
                -1
            )
            ON CONFLICT ON CONSTRAINT streams_name_key DO NOTHING
            RETURNING streams.id INTO made_id;
            IF FOUND THEN
                made := made || made_id;
                EXIT;
            END IF;
        END LOOP;
    END LOOP;

    IF EXISTS (SELECT FROM indelible.events WHERE events.id = ANY(new_ids))
        OR pg_sequence_last_value('indelible.archives') IS NOT NULL
        AND indelible.archived_ids(new_ids) <> '{}'
    THEN
        is_known := true;
        recalled := indelible.recall(appends);
        is_retry := recalled.is_retry;
    END IF;

    FOR item, place IN
        SELECT given, number
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (given, number)
        ORDER BY (given ->> 'stream') COLLATE "C", number
    LOOP
        expected := item -> 'expected';
        added := jsonb_array_length(item -> 'events');
        IF expected IS NULL OR expected < -1 AND expected NOT IN (-2, -4) THEN
            RAISE EXCEPTION 'expected version % is not known', expected
            USING ERRCODE = 'IND04',
                HINT = 'Pass a version, -1 (no stream), -2 (any) or -4 (stream exists).';
        END IF;
        IF at_name IS DISTINCT FROM item ->> 'stream' THEN
            at_name := item ->> 'stream';
            SELECT streams.id, streams.version, streams.channel, streams.closed_at INTO stream
            FROM indelible.streams
            WHERE streams.name = at_name;
            at_version := stream.version;
        END IF;
        outcome := 'checked';
        last_version := at_version;
        last_position := NULL;
        recorded_at := clock_timestamp();
        facts := NULL;
        IF stream.channel <> item ->> 'channel' THEN
            outcome := 'channel_mismatch';
            facts := jsonb_build_object('channel', stream.channel);
        ELSIF is_retry THEN
            -- recall has seen that the versions fit; a check without events held at that time.
            IF added > 0 THEN
                outcome := 'idempotent';
                last_version := recalled.results -> place::text -> 'version';
                last_position := recalled.results -> place::text -> 'position';
                recorded_at := recalled.results -> place::text ->> 'recorded_at';
            END IF;
        ELSIF is_known THEN
            outcome := 'duplicate';
            facts := recalled.duplicates;
            recalled.duplicates := NULL;  -- those of the whole list: told once
        ELSIF stream.closed_at IS NOT NULL AND added > 0 THEN
            outcome := 'closed';
            facts := jsonb_build_object('closed_at', stream.closed_at);
        ELSIF expected >= -1 AND last_version <> expected
            OR expected = -4 AND last_version = -1
        THEN
            outcome := 'wrong_version';
            facts := indelible.last_event(stream.id, stream.version);
        ELSE
            at_version := at_version + added;
        END IF;
        refused := refused
            OR outcome IN ('channel_mismatch', 'duplicate', 'closed', 'wrong_version');
        IF outcome <> 'checked' OR is_retry THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    -- Only now is anything written, so that a refusal burns no position.
    IF NOT refused AND NOT is_retry THEN
        -- Each row once, however often its stream stands in the list: the versions of a row that
        -- one transaction makes are looked through one by one.
        FOR at_name, added IN
            SELECT entry ->> 'stream', sum(jsonb_array_length(entry -> 'events'))
            FROM jsonb_array_elements(appends) AS entries (entry)
            GROUP BY 1
            HAVING sum(jsonb_array_length(entry -> 'events')) > 0
        LOOP
            UPDATE indelible.streams SET version = streams.version + added
            WHERE streams.name = at_name;
        END LOOP;
        FOR item, place, later IN
            SELECT
                given,
                number,
                sum(jsonb_array_length(given -> 'events')) OVER (
                    PARTITION BY given ->> 'stream'
                    ORDER BY number DESC
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                )
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (given, number)
            ORDER BY number
        LOOP
            outcome := 'checked';
            last_position := NULL;
            recorded_at := clock_timestamp();
            facts := NULL;
            added := jsonb_array_length(item -> 'events');
            SELECT streams.id, streams.version - coalesce(later, 0) INTO of_stream, last_version
            FROM indelible.streams
            WHERE streams.name = item ->> 'stream';
            IF added > 0 THEN
                outcome := 'appended';
                written := indelible.insert_events(
                    of_stream,
                    last_version - added + 1,
                    replace(replace(
                        jsonb_path_query_array(item -> 'events', '$[*].id')::text, '[', '{'
                    ), ']', '}')::uuid[],
                    item -> 'events'
                );
                last_position := written.last_position;
                recorded_at := written.recorded_at;
            END IF;
            RETURN NEXT;
        END LOOP;
    END IF;
    IF made <> '{}' THEN
        DELETE FROM indelible.streams WHERE streams.id = ANY(made) AND streams.version = -1;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.append_many(jsonb) IS
    'Appends to several streams, [{stream, channel, expected, events}, …], all or none, in the order of the list. One row an entry: appended, checked (no events) or idempotent; or else the refused entries alone. Outcomes and expected versions as in append(); the duplicates stand in one row.';


-- Read ----------------------------------------------------------------------------------------

CREATE VIEW indelible.recorded_events AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    events.data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at
FROM indelible.events
-- LEFT: where neither name nor channel is asked for, the planner leaves the join out.
LEFT JOIN indelible.streams ON streams.id = events.stream_id;
COMMENT ON VIEW indelible.recorded_events IS
    'Every event with its stream''s name and channel. To follow the log, read up to head().';

CREATE VIEW indelible.recorded_streams AS
SELECT
    streams.id AS stream_id,
    streams.name::text AS stream,
    streams.channel::text,
    streams.version
FROM indelible.streams;
COMMENT ON VIEW indelible.recorded_streams IS
    'Every stream with its channel and the version of its last event.';

CREATE FUNCTION indelible.size(OUT last_position bigint, OUT bytes bigint)
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        (SELECT last_value FROM indelible.events_position),
        pg_total_relation_size('indelible.events') + pg_total_relation_size('indelible.streams')
$$;
COMMENT ON FUNCTION indelible.size() IS
    'The last position handed out, and what tables and indexes take on disk.';


-- What a copy, or somebody's hand, may have broken ----------------------------------------------

CREATE FUNCTION indelible.store_problem(
    asked_for regclass, OUT problem text, OUT subject text, OUT number bigint
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Functions name their tables by the name that the schema had when the store was made.
    IF asked_for IS DISTINCT FROM to_regclass('indelible.events') THEN
        problem := 'renamed';
        subject := 'indelible.events';
        RETURN;
    END IF;
    -- Of two the one that was made later, which is the copy: the other goes on undisturbed.
    SELECT 'shared number', others.schema_id::regnamespace::text, mine.number
    INTO problem, subject, number
    FROM indelible.lock_numbers AS mine
    JOIN indelible.lock_numbers AS others USING (number)
    WHERE mine.function_id = 'indelible.lock_number()'::regprocedure
        AND others.function_id < mine.function_id
    ORDER BY others.function_id
    LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    -- Positions that a session keeps for later are below those that others have taken by then.
    SELECT 'sequence settings', 'indelible.events_position'
    INTO problem, subject
    FROM pg_sequence
    WHERE seqrelid = 'indelible.events_position'::regclass
        AND (seqcache <> 1 OR seqincrement <> 1 OR seqcycle);
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT 'sequence behind', sequences.name, sequences.used
    INTO problem, subject, number
    FROM (
        SELECT
            'indelible.events_position',
            greatest(
                (SELECT max(position) FROM indelible.events),
                (SELECT max(position) FROM indelible.archived_events),
                0
            ),
            (SELECT last_value + is_called::integer FROM indelible.events_position)
        UNION ALL
        SELECT
            'indelible.streams_id_seq',
            (SELECT max(id) FROM indelible.streams),
            (SELECT last_value + is_called::integer FROM indelible.streams_id_seq)
        UNION ALL
        SELECT
            'indelible.archives',
            (SELECT 1 FROM indelible.archived_events LIMIT 1),
            (SELECT last_value + is_called::integer FROM indelible.archives)
        UNION ALL
        SELECT
            'indelible.groups_id_seq',
            (SELECT max(id) FROM indelible.groups),
            (SELECT last_value + is_called::integer FROM indelible.groups_id_seq)
        UNION ALL
        SELECT
            'indelible.group_events_number_seq',
            (SELECT max(group_events.number) FROM indelible.group_events),
            (SELECT last_value + is_called::integer FROM indelible.group_events_number_seq)
        UNION ALL
        SELECT
            'indelible.stream_changes_number_seq',
            (SELECT max(stream_changes.number) FROM indelible.stream_changes),
            (SELECT last_value + is_called::integer FROM indelible.stream_changes_number_seq)
        UNION ALL
        SELECT
            'indelible.projections_id_seq',
            (SELECT max(id) FROM indelible.projections),
            (SELECT last_value + is_called::integer FROM indelible.projections_id_seq)
    ) AS sequences (name, used, next)
    WHERE sequences.next <= sequences.used
    LIMIT 1;
END
$$;
COMMENT ON FUNCTION indelible.store_problem(regclass) IS
    'Why the store must not be used: renamed, shared number (with the schema), sequence settings, or sequence behind (a number in use); null for nothing. The argument is the table of events in the schema that the caller means.';

CREATE FUNCTION indelible.repair_store()
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    found record;
BEGIN
    LOOP
        SELECT * INTO found FROM indelible.store_problem('indelible.events'::regclass);
        EXIT WHEN found.problem IS NULL;
        -- Nobody is at work in it meanwhile.
        LOCK TABLE indelible.append_gate, indelible.events IN ACCESS EXCLUSIVE MODE;
        CASE found.problem
            WHEN 'shared number' THEN
                PERFORM indelible.take_lock_number();
            WHEN 'sequence settings' THEN
                ALTER SEQUENCE indelible.events_position INCREMENT 1 CACHE 1 NO CYCLE;
            WHEN 'sequence behind' THEN
                PERFORM setval(found.subject::regclass, found.number);
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.repair_store() IS
    'Repairs what store_problem() finds, except for a schema that was renamed. For the owner.';


-- By default nobody but the owner may do anything; `indelible store init --roles` grants what is needed.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
