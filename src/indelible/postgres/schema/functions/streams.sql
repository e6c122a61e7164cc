-- The life cycle of a stream: close, reopen, archive, erase (docs/explanation/stream-lifecycle.md).

CREATE OR REPLACE FUNCTION indelible.record_change(
    stream_id bigint, operation text, events bigint, reason text
)
RETURNS bigint
LANGUAGE sql
AS $$
    INSERT INTO indelible.stream_changes (stream_id, operation, events, reason)
    VALUES (stream_id, operation, events, reason)
    RETURNING number
$$;
COMMENT ON FUNCTION indelible.record_change(bigint, text, bigint, text) IS
    'Records a life cycle change of a stream: the role, the time and the reason. Without this record, triggers reject the change.';

CREATE OR REPLACE FUNCTION indelible.close_stream(
    stream_name text,
    expected_version bigint,
    reason text,
    OUT outcome text,
    OUT last_version bigint,
    OUT details jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stream record;
BEGIN
    -- The row lock waits for earlier writers. Later writers find the stream closed.
    SELECT streams.id, streams.version, streams.closed_at INTO stream
    FROM indelible.streams
    WHERE streams.name = stream_name AND streams.version >= 0
    FOR NO KEY UPDATE;
    last_version := coalesce(stream.version, -1);
    IF stream.id IS NULL THEN
        outcome := 'missing';
    ELSIF expected_version >= -1 AND expected_version <> stream.version THEN
        outcome := 'wrong_version';
        details := indelible.last_event(stream.id, stream.version);
    ELSE
        outcome := 'done';
        IF stream.closed_at IS NULL THEN
            UPDATE indelible.streams SET closed_at = clock_timestamp() WHERE streams.id = stream.id;
            PERFORM indelible.record_change(stream.id, 'close', NULL, reason);
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.close_stream(text, bigint, text) IS
    'Closes a stream at an expected version, -2 or -4 for any. Later appends are rejected. Outcome: done, missing or wrong_version.';

CREATE OR REPLACE FUNCTION indelible.reopen_stream(stream_name text, reason text)
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
        PERFORM indelible.record_change(stream.id, 'reopen', NULL, reason);
    END IF;
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION indelible.reopen_stream(text, text) IS
    'Opens a closed stream again, at its current version. Outcome: done or missing.';

CREATE OR REPLACE FUNCTION indelible.archived_ids(ids uuid[])
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
COMMENT ON FUNCTION indelible.archived_ids(uuid[]) IS 'Those of the given ids that belong to archived events.';

CREATE OR REPLACE FUNCTION indelible.check_archived_ids(ids uuid[])
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- The server rejects this if an event was archived that this snapshot does not show.
        PERFORM FROM indelible.archive_lock FOR SHARE;
    END IF;
    IF EXISTS (
        SELECT
        FROM indelible.archived_events AS archived
        WHERE archived.id = ANY(ids)
            -- Not EXISTS, which the planner might join in the other direction.
            AND (SELECT true FROM indelible.events WHERE events.id = archived.id)
    ) THEN
        RAISE EXCEPTION 'another transaction appended and archived an event with the same id'
        USING ERRCODE = '40001', HINT = 'Run the transaction again: it then reports the event as stored or as a duplicate.';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.check_archived_ids(uuid[]) IS
    'Raises 40001 if one of the ids is in events and in the archive. Called after these events were inserted, if an archive exists.';

CREATE OR REPLACE FUNCTION indelible.archive_stream(stream_name text, reason text)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stream record;
    to_move bigint;
BEGIN
    -- Before the stream's row: only one transaction archives at a time, so that no deadlock occurs.
    UPDATE indelible.archive_lock SET is_only = is_only;
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
        PERFORM indelible.record_change(stream.id, 'archive', to_move, reason);
        UPDATE indelible.streams SET archived_at = clock_timestamp() WHERE streams.id = stream.id;
        DELETE FROM indelible.events WHERE stream_id = stream.id;
    END IF;
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION indelible.archive_stream(text, text) IS
    'Moves the events of a closed stream to archived_events. They keep their versions and positions. Outcome: done, missing or open.';

CREATE OR REPLACE FUNCTION indelible.erase_stream(stream_name text, reason text)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target_id bigint;
    to_erase bigint;
    change bigint;
BEGIN
    IF coalesce(reason, '') = '' THEN
        RAISE EXCEPTION 'a stream cannot be erased without a reason'
        USING ERRCODE = 'IND04', HINT = 'Pass a reason: it is the only record of the erasure.';
    END IF;
    SELECT streams.id INTO target_id
    FROM indelible.streams
    WHERE streams.name = stream_name AND streams.version >= 0
    -- Meanwhile no other transaction can store a snapshot of data that it read before.
    FOR UPDATE;
    IF target_id IS NULL THEN
        RETURN 'missing';
    END IF;
    SELECT count(*) INTO to_erase
    FROM indelible.all_events WHERE stream_id = target_id AND erasure IS NULL;
    IF to_erase > 0 THEN
        change := indelible.record_change(target_id, 'erase', to_erase, reason);
        UPDATE indelible.events
        SET data = 'null', metadata = NULL, erasure = change
        WHERE stream_id = target_id AND erasure IS NULL;
        UPDATE indelible.archived_events
        SET data = 'null', metadata = NULL, erasure = change
        WHERE stream_id = target_id AND erasure IS NULL;
        -- The recorded errors of consumer groups may repeat data of the events.
        DELETE FROM indelible.group_events
        USING indelible.all_events AS events
        WHERE events.stream_id = target_id AND group_events.position = events.position
            AND events.erasure = change;
        -- So may the recorded errors of projections.
        UPDATE indelible.projection_parked AS parked SET error = 'the event was erased'
        FROM indelible.all_events AS events
        WHERE events.stream_id = target_id AND parked.position = events.position
            AND events.erasure = change;
        UPDATE indelible.projection_partitions AS part SET error = 'the event was erased'
        FROM indelible.all_events AS events
        WHERE events.stream_id = target_id AND part.error_position = events.position
            AND events.erasure = change;
        UPDATE indelible.streams SET erased_at = clock_timestamp() WHERE streams.id = target_id;
    END IF;
    DELETE FROM indelible.snapshots WHERE snapshots.stream_id = target_id;
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION indelible.erase_stream(text, text) IS
    'Destroys the data and metadata of a stream''s events. They keep their versions and positions. Outcome: done or missing.';
