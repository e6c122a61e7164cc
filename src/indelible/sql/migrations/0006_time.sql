-- Time: which position stands for a moment, and the facts that are valid at one. Streams that end:
-- closed, archived, erased. docs/explanation/bitemporal.md and streams.md tell what the answers mean, and
-- why they do not change.

CREATE FUNCTION indelible.is_moment(moment timestamptz)
RETURNS boolean
LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    RETURN moment >= '0001-01-01 00:00+00' AND moment < '10000-01-01 00:00+00';
END
$$;
COMMENT ON FUNCTION indelible.is_moment(timestamptz) IS
    'Whether it is in the years 1 to 9999 of UTC: no reader in Python has any other.';

-- Not a type of its own, as names have: its index would not be found for rows (valid_at, position).
-- A function, since every statement that writes a row reads the CHECK from its text again.
ALTER TABLE indelible.events
    ADD CONSTRAINT events_valid_at_range CHECK (indelible.is_moment(valid_at));

-- Nothing for the events whose valid time is their recorded time.
CREATE INDEX events_valid_at_index ON indelible.events (valid_at, position)
WHERE valid_at IS NOT NULL;

CREATE TABLE indelible.periods (
    position bigint NOT NULL,
    earliest timestamptz,
    latest timestamptz,
    moment timestamptz NOT NULL,
    CONSTRAINT periods_pkey PRIMARY KEY (position)
);
CREATE INDEX periods_moment_index ON indelible.periods (moment, position);
COMMENT ON TABLE indelible.periods IS
    'A row for each 1,000 settled positions: in which time they were recorded. Readers add to it; appends do not.';
COMMENT ON COLUMN indelible.periods.position IS 'The last of its positions: a multiple of 1,000.';
COMMENT ON COLUMN indelible.periods.earliest IS
    'The earliest recorded_at of its events; null where there is none.';
COMMENT ON COLUMN indelible.periods.latest IS
    'The latest recorded_at of its events; null where there is none.';
COMMENT ON COLUMN indelible.periods.moment IS
    'The latest recorded_at of all events up to here.';

CREATE FUNCTION indelible.known_periods()
RETURNS bigint
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(max(position), 0) FROM indelible.periods
$$;
COMMENT ON FUNCTION indelible.known_periods() IS 'The last position that a row of periods covers.';

CREATE FUNCTION indelible.learn_periods(most bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settled constant bigint := indelible.head();
    known bigint := indelible.known_periods();
    upto bigint;
BEGIN
    IF settled - known < 1000 THEN
        RETURN false;
    END IF;
    -- One at a time; nobody waits for it, since everything can be answered without it. Bit 47 of
    -- the key is no position's. (Not ShareLock, which is what head() looks for.)
    IF current_setting('transaction_read_only') = 'on'
        OR NOT pg_try_advisory_xact_lock(indelible.lock_number() << 48 | 1::bigint << 47)
    THEN
        RETURN false;
    END IF;
    known := indelible.known_periods();
    upto := least(settled, known + most) / 1000 * 1000;
    INSERT INTO indelible.periods (position, earliest, latest, moment)
    SELECT
        periods.number * 1000,
        found.earliest,
        found.latest,
        greatest(
            (SELECT before.moment FROM indelible.periods AS before WHERE before.position = known),
            coalesce(max(found.latest) OVER (ORDER BY periods.number), '-infinity')
        )
    FROM generate_series(known / 1000 + 1, upto / 1000) AS periods (number)
    LEFT JOIN (
        SELECT
            (events.position + 999) / 1000 AS number,
            min(events.recorded_at) AS earliest,
            max(events.recorded_at) AS latest
        FROM indelible.all_events AS events
        WHERE events.position > known AND events.position <= upto
        GROUP BY 1
    ) AS found USING (number);
    RETURN settled - upto >= 1000;
END
$$;
COMMENT ON FUNCTION indelible.learn_periods(bigint) IS
    'Adds to periods what was settled since, so many positions at most; true where there is more.';

CREATE FUNCTION indelible.position_at(
    at_moment timestamptz, settled bigint, OUT stands_for bigint, OUT has_passed boolean
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    low bigint;
    high bigint;
    later bigint;
BEGIN
    SELECT position - 1000, position INTO low, high
    FROM indelible.periods
    WHERE moment > at_moment
    ORDER BY moment, position
    LIMIT 1;
    IF high IS NULL OR high > settled THEN
        low := least(coalesce(low, indelible.known_periods()), settled);
        high := settled;
    END IF;
    SELECT events.position INTO later
    FROM indelible.all_events AS events
    WHERE events.position > low AND events.position <= high AND events.recorded_at > at_moment
    ORDER BY events.position
    LIMIT 1;
    stands_for := coalesce(later - 1, settled);
    has_passed := later IS NOT NULL;
END
$$;
COMMENT ON FUNCTION indelible.position_at(timestamptz, bigint) IS
    'The position that stands for a moment: before the first event recorded later; the settled position where there is none, and the moment has not passed.';

CREATE FUNCTION indelible.version_at(stream_name text, at_position bigint)
RETURNS bigint
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_stream bigint;
    low bigint := -1;
    high bigint;
    middle bigint;
    has_archived boolean;
BEGIN
    SELECT streams.id, streams.version, streams.archived_at IS NOT NULL
    INTO of_stream, high, has_archived
    FROM indelible.streams
    WHERE streams.name = stream_name;
    -- Positions grow with versions: the last version at or below the position lies in low..high.
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF EXISTS (
            SELECT FROM indelible.all_events AS events
            WHERE events.stream_id = of_stream AND events.version = middle
                AND events.position <= at_position
                AND (has_archived OR NOT events.is_archived)
        ) THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;
COMMENT ON FUNCTION indelible.version_at(text, bigint) IS
    'The version that a stream had at a position; -1 where it had none.';


-- The life of a stream --------------------------------------------------------------------------

ALTER TABLE indelible.streams
    ADD COLUMN closed_at timestamptz,
    ADD COLUMN archived_at timestamptz,
    ADD COLUMN erased_at timestamptz;
COMMENT ON COLUMN indelible.streams.closed_at IS 'When it was closed; null for an open stream.';
COMMENT ON COLUMN indelible.streams.archived_at IS
    'When its events were moved to archived_events last; null for never.';
COMMENT ON COLUMN indelible.streams.erased_at IS
    'When the data of its events was erased last; null for never.';

CREATE OR REPLACE VIEW indelible.recorded_streams AS
SELECT
    streams.id AS stream_id,
    streams.name::text AS stream,
    streams.channel::text,
    streams.version,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM indelible.streams;

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

CREATE TRIGGER stream_changes_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.stream_changes
FOR EACH STATEMENT EXECUTE FUNCTION indelible.refuse_change();
ALTER TABLE indelible.stream_changes ENABLE ALWAYS TRIGGER stream_changes_are_immutable;

-- A column that is null takes no room.
ALTER TABLE indelible.events ADD COLUMN erasure bigint;
COMMENT ON COLUMN indelible.events.data IS 'The fact itself; JSON''s null where it was erased.';
COMMENT ON COLUMN indelible.events.erasure IS
    'By which change it was erased: stream_changes.number; 0 where it was erased before it was imported; null where it was not.';

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

-- Both parts have an index in each order that is read, so that the planner merges them.
CREATE VIEW indelible.all_events AS
SELECT
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure,
    false AS is_archived
FROM indelible.events
UNION ALL
SELECT
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure,
    true AS is_archived
FROM indelible.archived_events;
COMMENT ON VIEW indelible.all_events IS
    'The log, archived or not. is_archived is a constant of each part: a condition on it leaves a part out.';

CREATE OR REPLACE VIEW indelible.recorded_events AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    CASE WHEN events.erasure IS NULL THEN events.data END AS data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at,
    events.valid_at AS given_valid_at,
    events.is_archived
FROM indelible.all_events AS events
-- LEFT: where neither name nor channel is asked for, the planner leaves the join out.
LEFT JOIN indelible.streams ON streams.id = events.stream_id;

-- Its two parts, each with the statistics of its tables: what reads the log in pages merges pages of
-- both. Of a union the planner does not know how many streams it is of, and would not remember them.
CREATE VIEW indelible.recorded_unarchived AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    CASE WHEN events.erasure IS NULL THEN events.data END AS data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at,
    events.valid_at AS given_valid_at
FROM indelible.events
LEFT JOIN indelible.streams ON streams.id = events.stream_id;
COMMENT ON VIEW indelible.recorded_unarchived IS 'Those of recorded_events that are not archived.';

CREATE VIEW indelible.recorded_archived AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    CASE WHEN events.erasure IS NULL THEN events.data END AS data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at,
    events.valid_at AS given_valid_at
FROM indelible.archived_events AS events
LEFT JOIN indelible.streams ON streams.id = events.stream_id;
COMMENT ON VIEW indelible.recorded_archived IS 'Those of recorded_events that are archived.';

-- Appends ask whether there is an archive: a sequence is read in an expression, and what it says holds
-- at once, whatever the snapshot, before the first event is moved.
CREATE SEQUENCE indelible.archives;
COMMENT ON SEQUENCE indelible.archives IS
    'How often streams were archived, at least; no value yet in a store without archived events.';

CREATE TABLE indelible.archive_gate (
    is_only boolean NOT NULL
);
INSERT INTO indelible.archive_gate (is_only) VALUES (true);
COMMENT ON TABLE indelible.archive_gate IS
    'One row, which archive_stream() updates: a transaction with an older snapshot fails to lock it.';
COMMENT ON COLUMN indelible.archive_gate.is_only IS 'Always true: there is one row.';

CREATE FUNCTION indelible.archived_ids(ids uuid[])
RETURNS uuid[]
LANGUAGE plpgsql
STABLE
AS $$
BEGIN
    RETURN ARRAY(
        SELECT archived.id FROM indelible.archived_events AS archived WHERE archived.id = ANY(ids)
    );
END
$$;
COMMENT ON FUNCTION indelible.archived_ids(uuid[]) IS 'Those of the ids that archived events have.';

CREATE FUNCTION indelible.check_archive(ids uuid[])
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- The server refuses it where something was archived that this snapshot does not show.
        PERFORM FROM indelible.archive_gate FOR SHARE;
    END IF;
    IF EXISTS (
        SELECT
        FROM indelible.archived_events AS archived
        WHERE archived.id = ANY(ids)
            -- Not EXISTS, which might be joined the other way round.
            AND (SELECT true FROM indelible.events WHERE events.id = archived.id)
    ) THEN
        RAISE EXCEPTION 'an event with the same id was appended and archived at the same moment'
        USING ERRCODE = '40001', HINT = 'Run the transaction again to learn where it stands.';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.check_archive(uuid[]) IS
    'Raises 40001 if one of the ids stands in events and in the archive. Called after these events were inserted, if there is an archive.';

-- What lets a change through is the record of it, made in the same transaction: there is no other
-- way, for the owner either, and none without a trace. Not the number of the transaction alone: in
-- a store restored elsewhere numbers come again, and not at the same microsecond.
CREATE FUNCTION indelible.is_recorded_change(of_stream bigint, by_operation text)
RETURNS boolean
LANGUAGE sql
STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM indelible.stream_changes
        WHERE transaction_id = pg_current_xact_id()
            AND noted_at = now()
            AND (of_stream IS NULL OR stream_id = of_stream)
            AND operation = by_operation
    )
$$;
COMMENT ON FUNCTION indelible.is_recorded_change(bigint, text) IS
    'Whether this transaction has recorded that it does this to a stream, or (null) to any.';

CREATE FUNCTION indelible.refuse_unrecorded_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    kept constant text[] := ARRAY['data', 'metadata', 'erasure'];
    operation constant text := CASE tg_op
        WHEN 'UPDATE' THEN 'erase' WHEN 'DELETE' THEN 'archive' WHEN 'INSERT' THEN 'archive'
    END;
    stream bigint;
BEGIN
    IF tg_level = 'ROW' THEN
        stream := coalesce(old.stream_id, new.stream_id);
    END IF;
    IF operation IS NOT NULL AND indelible.is_recorded_change(stream, operation) THEN
        IF tg_level = 'STATEMENT' THEN
            IF tg_op = 'DELETE' THEN
                -- Before the first event goes: from now on appends look for their ids in the archive.
                PERFORM nextval('indelible.archives');
            END IF;
            RETURN NULL;
        ELSIF tg_op = 'UPDATE' THEN
            -- Only the data goes; the event's place stays, and so does all that says where it is.
            IF new.data = 'null' AND new.metadata IS NULL AND new.erasure IS NOT NULL
                AND to_jsonb(new) - kept = to_jsonb(old) - kept
            THEN
                RETURN new;
            END IF;
        ELSIF tg_op = 'DELETE' AND tg_table_name = 'events' THEN
            -- What leaves the table comes into the archive, as it is, by this and no other way. All
            -- columns, also those that later migrations add to both.
            INSERT INTO indelible.archived_events SELECT old.*;
            RETURN old;
        ELSIF tg_op = 'INSERT' AND pg_trigger_depth() > 1 AND EXISTS (
            SELECT
            FROM indelible.events
            JOIN indelible.streams ON streams.id = events.stream_id
            WHERE events.position = new.position
                AND events.id = new.id
                -- Without it readers of the stream would not look into the archive.
                AND streams.archived_at IS NOT NULL
        ) THEN
            RETURN new;
        END IF;
    END IF;
    RAISE EXCEPTION '% of %.% is refused: what is written stands',
        tg_op, tg_table_schema, tg_table_name
    USING ERRCODE = 'IND01',
        HINT = 'Events are immutable. Append an event that corrects the earlier one.';
END
$$;
COMMENT ON FUNCTION indelible.refuse_unrecorded_change() IS
    'Raises IND01 unless the change is one of archive_stream() or erase_stream(), and recorded.';

DROP TRIGGER events_are_immutable ON indelible.events;

CREATE TRIGGER events_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.events
FOR EACH STATEMENT EXECUTE FUNCTION indelible.refuse_unrecorded_change();
ALTER TABLE indelible.events ENABLE ALWAYS TRIGGER events_are_immutable;

CREATE TRIGGER events_change_as_recorded
BEFORE UPDATE OR DELETE ON indelible.events
FOR EACH ROW EXECUTE FUNCTION indelible.refuse_unrecorded_change();
ALTER TABLE indelible.events ENABLE ALWAYS TRIGGER events_change_as_recorded;

CREATE TRIGGER archived_events_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.archived_events
FOR EACH STATEMENT EXECUTE FUNCTION indelible.refuse_unrecorded_change();
ALTER TABLE indelible.archived_events ENABLE ALWAYS TRIGGER archived_events_are_immutable;

CREATE TRIGGER archived_events_change_as_recorded
BEFORE UPDATE OR DELETE ON indelible.archived_events
FOR EACH ROW EXECUTE FUNCTION indelible.refuse_unrecorded_change();
ALTER TABLE indelible.archived_events ENABLE ALWAYS TRIGGER archived_events_change_as_recorded;

-- Not ALWAYS: logical replication copies an archive.
CREATE TRIGGER archived_events_come_from_events
BEFORE INSERT ON indelible.archived_events
FOR EACH ROW EXECUTE FUNCTION indelible.refuse_unrecorded_change();

CREATE TRIGGER archived_streams_stay_known
BEFORE UPDATE OF archived_at ON indelible.streams
FOR EACH ROW WHEN (old.archived_at IS NOT NULL AND new.archived_at IS NULL)
EXECUTE FUNCTION indelible.refuse_change();
ALTER TABLE indelible.streams ENABLE ALWAYS TRIGGER archived_streams_stay_known;

CREATE FUNCTION indelible.record_change(
    of_stream bigint, by_operation text, of_events bigint, why text
)
RETURNS bigint
LANGUAGE sql
AS $$
    INSERT INTO indelible.stream_changes (stream_id, operation, events, reason)
    VALUES (of_stream, by_operation, of_events, why)
    RETURNING number
$$;
COMMENT ON FUNCTION indelible.record_change(bigint, text, bigint, text) IS
    'Says who changes a stream, when and why: without it the change is refused.';

CREATE FUNCTION indelible.import_lives(stream_ids bigint[], lives jsonb)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO indelible.stream_changes (
        stream_id, operation, events, changed_by, changed_at, reason
    )
    SELECT
        stream_ids[life.place], change.operation, change.events, change.changed_by,
        change.changed_at, change.reason
    FROM ROWS FROM (
        jsonb_to_recordset(lives) AS (place integer, changes jsonb)
    ) WITH ORDINALITY AS life (place, changes, number)
    CROSS JOIN LATERAL ROWS FROM (
        jsonb_to_recordset(life.changes) AS (
            operation text, events bigint, changed_by text, changed_at timestamptz, reason text
        )
    ) WITH ORDINALITY AS change (operation, events, changed_by, changed_at, reason, number)
    -- What is known of a stream that was imported up to here before.
    WHERE NOT EXISTS (
        SELECT FROM indelible.stream_changes AS known
        WHERE known.stream_id = stream_ids[life.place] AND known.changed_at >= change.changed_at
    )
    ORDER BY life.number, change.number;
    UPDATE indelible.streams
    SET closed_at = life.closed_at,
        archived_at = coalesce(life.archived_at, streams.archived_at),
        erased_at = coalesce(
            life.erased_at, streams.erased_at, CASE WHEN life.is_erased THEN clock_timestamp() END
        )
    FROM jsonb_to_recordset(lives) AS life (
        place integer,
        is_erased boolean,
        closed_at timestamptz,
        archived_at timestamptz,
        erased_at timestamptz
    )
    WHERE streams.id = stream_ids[life.place]
$$;
COMMENT ON FUNCTION indelible.import_lives(bigint[], jsonb) IS
    'Notes what was done elsewhere to streams whose last events are imported: who closed, archived or erased them, when and why.';

CREATE FUNCTION indelible.close_stream(
    stream_name text,
    expected_version bigint,
    why text,
    OUT outcome text,
    OUT last_version bigint,
    OUT facts jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stream record;
BEGIN
    -- The row lock lets the writers before it end, and those after it find it closed.
    SELECT streams.id, streams.version, streams.closed_at INTO stream
    FROM indelible.streams
    WHERE streams.name = stream_name AND streams.version >= 0
    FOR NO KEY UPDATE;
    last_version := coalesce(stream.version, -1);
    IF stream.id IS NULL THEN
        outcome := 'missing';
    ELSIF expected_version >= -1 AND expected_version <> stream.version THEN
        outcome := 'wrong_version';
        facts := indelible.last_event(stream.id, stream.version);
    ELSE
        outcome := 'done';
        IF stream.closed_at IS NULL THEN
            UPDATE indelible.streams SET closed_at = clock_timestamp() WHERE streams.id = stream.id;
            PERFORM indelible.record_change(stream.id, 'close', NULL, why);
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.close_stream(text, bigint, text) IS
    'Closes a stream at an expected version, -2 or -4 for any: appends are refused from then on. Outcome: done, missing or wrong_version.';

CREATE FUNCTION indelible.reopen_stream(stream_name text, why text)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stream record;
BEGIN
    SELECT streams.id, streams.closed_at INTO stream
    FROM indelible.streams
    WHERE streams.name = stream_name AND streams.version >= 0
    FOR NO KEY UPDATE;
    IF stream.id IS NULL THEN
        RETURN 'missing';
    END IF;
    IF stream.closed_at IS NOT NULL THEN
        UPDATE indelible.streams SET closed_at = NULL WHERE streams.id = stream.id;
        PERFORM indelible.record_change(stream.id, 'reopen', NULL, why);
    END IF;
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION indelible.reopen_stream(text, text) IS
    'Opens a closed stream again, at the version where it stands. Outcome: done or missing.';

CREATE FUNCTION indelible.archive_stream(stream_name text, why text)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stream record;
    to_move bigint;
BEGIN
    -- Before the stream's row: one archives at a time, and nobody waits in a circle.
    UPDATE indelible.archive_gate SET is_only = is_only;
    SELECT streams.id, streams.closed_at INTO stream
    FROM indelible.streams
    WHERE streams.name = stream_name AND streams.version >= 0
    FOR NO KEY UPDATE;
    IF stream.id IS NULL THEN
        RETURN 'missing';
    ELSIF stream.closed_at IS NULL THEN
        RETURN 'open';
    END IF;
    SELECT count(*) INTO to_move FROM indelible.events WHERE stream_id = stream.id;
    IF to_move > 0 THEN
        PERFORM indelible.record_change(stream.id, 'archive', to_move, why);
        UPDATE indelible.streams SET archived_at = clock_timestamp() WHERE streams.id = stream.id;
        DELETE FROM indelible.events WHERE stream_id = stream.id;
    END IF;
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION indelible.archive_stream(text, text) IS
    'Moves the events of a closed stream to archived_events; they keep their places. Outcome: done, missing or open.';


-- As before, and: an archive is measured with the rest.

CREATE OR REPLACE FUNCTION indelible.size(OUT last_position bigint, OUT bytes bigint)
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        (SELECT last_value FROM indelible.events_position),
        pg_total_relation_size('indelible.events')
            + pg_total_relation_size('indelible.archived_events')
            + pg_total_relation_size('indelible.streams')
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
