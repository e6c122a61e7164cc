-- Appends to one stream, and to several in one transaction (docs/explanation/appends.md).

CREATE OR REPLACE FUNCTION indelible.insert_events(
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
    is_first boolean := indelible.lock_head();
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
    IF pg_sequence_last_value('indelible.archive_count') IS NOT NULL THEN
        PERFORM indelible.check_archived_ids(new_ids);
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

CREATE OR REPLACE FUNCTION indelible.wait_at_commit()
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

CREATE OR REPLACE FUNCTION indelible.find_existing_events(
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
                AND stored.version - row_number() OVER by_stream + 1
                    = first_value(stored.version) OVER by_stream
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
        WINDOW by_stream AS (PARTITION BY given.stream ORDER BY given.entry, given.place)
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
COMMENT ON FUNCTION indelible.find_existing_events(jsonb) IS
    'Looks up the ids of events that were refused: a retry of an append that succeeded, or duplicates.';

CREATE OR REPLACE FUNCTION indelible.last_event(stream_id bigint, version bigint)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT jsonb_build_object('id', id, 'recorded_at', recorded_at)
        FROM indelible.all_events
        WHERE stream_id = last_event.stream_id AND version = last_event.version
    );
END
$$;
COMMENT ON FUNCTION indelible.last_event(bigint, bigint) IS
    'The id and time that a wrong expected version is reported with.';

CREATE OR REPLACE FUNCTION indelible.explain_rejection(
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
    FROM indelible.find_existing_events(jsonb_build_array(jsonb_build_object(
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
COMMENT ON FUNCTION indelible.explain_rejection(text, text, bigint, jsonb) IS
    'Why an append was refused, or the first result where it is a retry.';

CREATE OR REPLACE FUNCTION indelible.append(
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
-- a table was small would read it whole for long after it has grown: they are held to look up one
-- row after the other in an index, without bitmaps, which take longer to set up. That is so in each
-- function with these settings.
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
    -- An expression, as in lock_head().
    has_archive constant boolean := pg_sequence_last_value('indelible.archive_count') IS NOT NULL;
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
            indelible.distinct_tags(jsonb_path_query_array(new_events, '$[*].tags[*]'))
        );
    ELSE
        LOCK TABLE indelible.append_lock IN ROW EXCLUSIVE MODE;
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
        FROM indelible.explain_rejection(
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

CREATE OR REPLACE FUNCTION indelible.append_many(appends jsonb)
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
-- As in append().
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
    current_name text;
    current_version bigint;
    new_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(appends, '$[*].events[*].id')::text, '[', '{'), ']', '}'
        );
    is_retry boolean := false;
    is_known boolean := false;
    written record;
    -- The stream of an entry, and how many events of later entries it has.
    target_id bigint;
    later bigint;
    made_id bigint;
    made bigint[] := '{}';
BEGIN
    -- Before the rows of streams: locks are taken in one order by all.
    PERFORM indelible.lock_for_append(
        indelible.distinct_tags(jsonb_path_query_array(appends, '$[*].events[*].tags[*]'))
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
        OR pg_sequence_last_value('indelible.archive_count') IS NOT NULL
        AND indelible.archived_ids(new_ids) <> '{}'
    THEN
        is_known := true;
        recalled := indelible.find_existing_events(appends);
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
        IF current_name IS DISTINCT FROM item ->> 'stream' THEN
            current_name := item ->> 'stream';
            SELECT streams.id, streams.version, streams.channel, streams.closed_at INTO stream
            FROM indelible.streams
            WHERE streams.name = current_name;
            current_version := stream.version;
        END IF;
        outcome := 'checked';
        last_version := current_version;
        last_position := NULL;
        recorded_at := clock_timestamp();
        facts := NULL;
        IF stream.channel <> item ->> 'channel' THEN
            outcome := 'channel_mismatch';
            facts := jsonb_build_object('channel', stream.channel);
        ELSIF is_retry THEN
            -- find_existing_events has seen that the versions fit; a check without events held at
            -- that time.
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
            current_version := current_version + added;
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
        FOR current_name, added IN
            SELECT entry ->> 'stream', sum(jsonb_array_length(entry -> 'events'))
            FROM jsonb_array_elements(appends) AS entries (entry)
            GROUP BY 1
            HAVING sum(jsonb_array_length(entry -> 'events')) > 0
        LOOP
            UPDATE indelible.streams SET version = streams.version + added
            WHERE streams.name = current_name;
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
            SELECT streams.id, streams.version - coalesce(later, 0) INTO target_id, last_version
            FROM indelible.streams
            WHERE streams.name = item ->> 'stream';
            IF added > 0 THEN
                outcome := 'appended';
                written := indelible.insert_events(
                    target_id,
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
