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
        first_version + ordinal - 1,
        insert_events.recorded_at,
        new_ids[ordinal],
        event ->> 'type',
        event -> 'data',
        event -> 'metadata',
        CASE WHEN event ? 'tags'
            THEN ARRAY(SELECT jsonb_array_elements_text(event -> 'tags'))
        END,
        (event ->> 'valid_at')::timestamptz
    FROM jsonb_array_elements(new_events) WITH ORDINALITY AS given (event, ordinal)
    ORDER BY ordinal;
    -- In a later statement than the INSERT: docs/explanation/stream-lifecycle.md explains why.
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
    'Writes events, with their ids in an array, at versions that the caller has already reserved.';

CREATE OR REPLACE FUNCTION indelible.wait_at_commit()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A transaction that wrote nothing to the WAL does not wait at its commit.
    PERFORM pg_logical_emit_message(true, 'indelible', ''::text);
END
$$;
COMMENT ON FUNCTION indelible.wait_at_commit() IS
    'Makes the commit of this transaction wait until the disk and synchronous standbys have all that it has seen. Called when events of another transaction are reported as stored: the wait of that one may have been cancelled.';

CREATE OR REPLACE FUNCTION indelible.find_existing_events(
    appends jsonb,
    OUT existing_count bigint,
    OUT is_retry boolean,
    OUT results jsonb,
    OUT duplicates jsonb
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    new_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(appends, '$[*].events[*].id')::text, '[', '{'), ']', '}'
        );
BEGIN
    -- Most rejected appends are no retries. Then this is all, and a conflict costs little.
    IF NOT (
        EXISTS (SELECT FROM indelible.events WHERE events.id = ANY(new_ids))
        OR pg_sequence_last_value('indelible.archive_count') IS NOT NULL
        AND indelible.archived_ids(new_ids) <> '{}'
    ) THEN
        existing_count := 0;
        is_retry := false;
        RETURN;
    END IF;
    -- One row per given event: what is stored under its id, and whether that is the same event.
    WITH given AS (
        SELECT
            entry,
            ordinal,
            item ->> 'stream' AS stream,
            (item ->> 'expected')::bigint AS expected,
            event
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, entry),
            jsonb_array_elements(item -> 'events') WITH ORDINALITY AS events (event, ordinal)
    ),
    matched AS (
        SELECT
            given.entry,
            given.ordinal,
            given.event ->> 'id' AS id,
            stored.position,
            stored.version,
            stored.recorded_at,
            streams.name AS stream,
            streams.name = given.stream
                -- Without gaps, over all parts of the list that are of one stream.
                AND stored.version - row_number() OVER by_stream + 1
                    = first_value(stored.version) OVER by_stream
                AND (given.expected < -1 OR stored.version - given.ordinal = given.expected)
                AS same_position,
            stored.type = given.event ->> 'type'
                -- The content of an erased event is unknown.
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
        WINDOW by_stream AS (PARTITION BY given.stream ORDER BY given.entry, given.ordinal)
    )
    SELECT
        count(position),
        coalesce(bool_and(position IS NOT NULL AND same_position AND same_content), false),
        jsonb_object_agg(
            entry,
            jsonb_build_object('version', version, 'position', position, 'recorded_at', recorded_at)
            -- In order of ordinal the last one of an entry stays: its last event.
            ORDER BY ordinal
        ),
        jsonb_agg(
            jsonb_build_object(
                'id', id, 'stream', stream, 'version', version, 'same_content', same_content
            )
            ORDER BY entry, ordinal
        ) FILTER (WHERE position IS NOT NULL)
    INTO existing_count, is_retry, results, duplicates
    FROM matched;
    IF is_retry THEN
        PERFORM indelible.wait_at_commit();
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.find_existing_events(jsonb) IS
    'Looks up the ids of rejected events: a retry of an append that succeeded, or duplicates.';

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
    'The id and time that are reported with a wrong expected version.';

CREATE OR REPLACE FUNCTION indelible.explain_rejection(
    stream_name text,
    stream_channel text,
    expected_version bigint,
    new_events jsonb,
    OUT outcome text,
    OUT last_version bigint,
    OUT last_position bigint,
    OUT recorded_at timestamptz,
    OUT details jsonb
)
LANGUAGE plpgsql
-- As in append(), whose settings leave out those for joins.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    stream record;
    existing record;
BEGIN
    SELECT streams.id, streams.version, streams.channel, streams.closed_at INTO stream
    FROM indelible.streams
    WHERE streams.name = stream_name;
    IF stream.channel <> stream_channel THEN
        outcome := 'channel_mismatch';
        details := jsonb_build_object('channel', stream.channel);
        RETURN;
    END IF;

    SELECT * INTO existing
    FROM indelible.find_existing_events(jsonb_build_array(jsonb_build_object(
        'stream', stream_name, 'expected', expected_version, 'events', new_events
    )));
    IF existing.is_retry THEN
        outcome := 'idempotent';
        last_version := existing.results -> '1' -> 'version';
        last_position := existing.results -> '1' -> 'position';
        recorded_at := existing.results -> '1' ->> 'recorded_at';
    ELSIF existing.existing_count > 0 THEN
        outcome := 'duplicate';
        details := existing.duplicates;
    ELSIF stream.closed_at IS NOT NULL THEN
        outcome := 'closed';
        last_version := stream.version;
        details := jsonb_build_object('closed_at', stream.closed_at);
    ELSE
        outcome := 'wrong_version';
        last_version := coalesce(stream.version, -1);
        details := indelible.last_event(stream.id, last_version);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.explain_rejection(text, text, bigint, jsonb) IS
    'Why an append was rejected, or the first result if it is a retry.';

CREATE OR REPLACE FUNCTION indelible.append(
    stream_name text,
    stream_channel text,
    expected_version bigint,
    new_events jsonb,
    OUT outcome text,
    OUT last_version bigint,
    OUT last_position bigint,
    OUT recorded_at timestamptz,
    OUT details jsonb
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Plans are made once per session, also for every function that is called from here. A plan made
-- while a table was small would scan it whole long after it has grown. These settings, here and in
-- other functions, force index lookups row by row, without bitmaps, which take longer to set up.
-- Each costs every call, so those for joins are left to the functions that join.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    added constant bigint := jsonb_array_length(new_events);
    first_event constant jsonb := new_events -> 0;
    -- The usual append: one event, without tags and a valid time of its own.
    is_plain constant boolean := added = 1 AND NOT first_event ?| '{tags,valid_at}';
    new_ids uuid[] := ARRAY[(first_event ->> 'id')::uuid];
    target_id bigint;
    unused boolean;
    written record;
BEGIN
    IF added = 0 OR (expected_version >= -2 OR expected_version = -4) IS NOT TRUE THEN
        IF added = 0 THEN
            RAISE EXCEPTION 'no events to append to stream %', stream_name
            USING ERRCODE = 'IND04', HINT = 'To check a version without appending, call append_many with no events.';
        END IF;
        RAISE EXCEPTION 'expected version % is not known', expected_version
        USING ERRCODE = 'IND04',
            HINT = 'Pass a version, -1 (no stream), -2 (any) or -4 (stream exists).';
    END IF;

    -- Before the stream's row: all functions take locks in the same order.
    IF is_plain THEN
        LOCK TABLE indelible.append_lock IN ROW EXCLUSIVE MODE;
    ELSE
        -- ["…", "…"] becomes the array {"…", "…"}: many times cheaper than a query.
        new_ids := replace(replace(
            jsonb_path_query_array(new_events, '$[*].id')::text, '[', '{'), ']', '}'
        );
        PERFORM indelible.lock_for_append(
            indelible.distinct_tags(jsonb_path_query_array(new_events, '$[*].tags[*]'))
        );
    END IF;
    LOOP
        -- Optimistic concurrency: the row lock serializes the writers of this stream, and each one
        -- finds the version after the previous writer.
        IF expected_version <> -1 THEN
            UPDATE indelible.streams
            SET version = streams.version + added
            WHERE streams.name = stream_name
                AND streams.closed_at IS NULL
                AND (expected_version < 0 OR streams.version = expected_version)
                AND (stream_channel IS NULL OR streams.channel = stream_channel)
            RETURNING streams.id, streams.version INTO target_id, last_version;
        END IF;
        IF target_id IS NOT NULL OR expected_version IN (-1, -2) THEN
            -- The ids are looked up after the row lock, so that a retry sees a concurrent original,
            -- and before positions are taken, so that a rejection wastes none.
            PERFORM FROM indelible.events WHERE events.id = ANY(new_ids);
            IF FOUND
                OR pg_sequence_last_value('indelible.archive_count') IS NOT NULL
                AND indelible.archived_ids(new_ids) <> '{}'
            THEN
                UPDATE indelible.streams
                SET version = streams.version - added
                WHERE streams.id = target_id;
                target_id := NULL;
            ELSIF target_id IS NOT NULL THEN
                EXIT;
            ELSE
                INSERT INTO indelible.streams (name, channel, version)
                VALUES (
                    stream_name,
                    coalesce(stream_channel, split_part(stream_name, '-', 1)),
                    added - 1
                )
                ON CONFLICT ON CONSTRAINT streams_name_key DO NOTHING
                RETURNING streams.id, streams.version INTO target_id, last_version;
                EXIT WHEN FOUND;
            END IF;
        END IF;

        SELECT refused.* INTO outcome, last_version, last_position, recorded_at, details
        FROM indelible.explain_rejection(
            stream_name, stream_channel, expected_version, new_events
        ) AS refused;
        -- Another writer may have created the stream, or appended up to the expected version, since.
        IF outcome = 'wrong_version' AND (
            last_version = expected_version
            OR expected_version = -2
            OR expected_version = -4 AND last_version >= 0
        ) THEN
            CONTINUE;
        END IF;
        RETURN;
    END LOOP;

    outcome := 'appended';
    IF NOT is_plain THEN
        written := indelible.insert_events(target_id, last_version - added + 1, new_ids, new_events);
        last_position := written.last_position;
        recorded_at := written.recorded_at;
        RETURN;
    END IF;
    -- What insert_events() does, for a plain append.
    unused := indelible.lock_head();
    recorded_at := clock_timestamp();
    last_position := nextval('indelible.events_position');
    INSERT INTO indelible.events
        (position, stream_id, version, recorded_at, id, type, data, metadata)
    VALUES (
        last_position,
        target_id,
        last_version,
        recorded_at,
        new_ids[1],
        first_event ->> 'type',
        first_event -> 'data',
        first_event -> 'metadata'
    );
    -- In a later statement than the INSERT, as in insert_events().
    IF pg_sequence_last_value('indelible.archive_count') IS NOT NULL THEN
        PERFORM indelible.check_archived_ids(new_ids);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.append(text, text, bigint, jsonb) IS
    'Appends events to one stream. Outcome: appended; idempotent (a retry: the first result); wrong_version, channel_mismatch or duplicate (nothing is written, details contain the reason). Expected: a version, -1 no stream, -2 any, -4 stream exists.';

CREATE OR REPLACE FUNCTION indelible.append_many(appends jsonb)
RETURNS TABLE (
    ordinal bigint,
    outcome text,
    last_version bigint,
    last_position bigint,
    recorded_at timestamptz,
    details jsonb
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
    existing record;
    expected bigint;
    added bigint;
    is_rejected boolean := false;
    -- The current stream of the loop; the list may contain it more than once.
    current_name text;
    current_version bigint;
    new_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(appends, '$[*].events[*].id')::text, '[', '{'), ']', '}'
        );
    is_retry boolean := false;
    has_existing boolean := false;
    written record;
    -- The stream of an entry, and how many events of later entries it has.
    target_id bigint;
    later bigint;
    created_id bigint;
    created bigint[] := '{}';
BEGIN
    -- Before the rows of streams: all functions take locks in the same order.
    PERFORM indelible.lock_for_append(
        indelible.distinct_tags(jsonb_path_query_array(appends, '$[*].events[*].tags[*]'))
    );
    -- All rows are locked in one order before the first check, so that two such calls cannot
    -- deadlock. A stream that does not exist is created, its new row being the lock, and is deleted
    -- below if nothing was appended to it.
    FOR stream IN
        SELECT DISTINCT ON (name)
            (given ->> 'stream') COLLATE "C" AS name,
            given ->> 'channel' AS channel
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (given, ordinal)
        ORDER BY name, jsonb_array_length(given -> 'events') = 0, ordinal
    LOOP
        LOOP
            PERFORM FROM indelible.streams
            WHERE streams.name = stream.name
            FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO indelible.streams (name, channel, version)
            VALUES (
                stream.name,
                -- A check without events needs no channel, and a name may begin with a dash.
                coalesce(stream.channel, nullif(split_part(stream.name, '-', 1), ''), '-'),
                -1
            )
            ON CONFLICT ON CONSTRAINT streams_name_key DO NOTHING
            RETURNING streams.id INTO created_id;
            IF FOUND THEN
                created := created || created_id;
                EXIT;
            END IF;
        END LOOP;
    END LOOP;

    IF EXISTS (SELECT FROM indelible.events WHERE events.id = ANY(new_ids))
        OR pg_sequence_last_value('indelible.archive_count') IS NOT NULL
        AND indelible.archived_ids(new_ids) <> '{}'
    THEN
        has_existing := true;
        existing := indelible.find_existing_events(appends);
        is_retry := existing.is_retry;
    END IF;

    FOR item, ordinal IN
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
        details := NULL;
        IF stream.channel <> item ->> 'channel' THEN
            outcome := 'channel_mismatch';
            details := jsonb_build_object('channel', stream.channel);
        ELSIF is_retry THEN
            -- find_existing_events() has checked that the versions fit; a check without events was
            -- true at that time.
            IF added > 0 THEN
                outcome := 'idempotent';
                last_version := existing.results -> ordinal::text -> 'version';
                last_position := existing.results -> ordinal::text -> 'position';
                recorded_at := existing.results -> ordinal::text ->> 'recorded_at';
            END IF;
        ELSIF has_existing THEN
            outcome := 'duplicate';
            details := existing.duplicates;
            existing.duplicates := NULL;  -- those of the whole list: returned once
        ELSIF stream.closed_at IS NOT NULL AND added > 0 THEN
            outcome := 'closed';
            details := jsonb_build_object('closed_at', stream.closed_at);
        ELSIF expected >= -1 AND last_version <> expected
            OR expected = -4 AND last_version = -1
        THEN
            outcome := 'wrong_version';
            details := indelible.last_event(stream.id, stream.version);
        ELSE
            current_version := current_version + added;
        END IF;
        is_rejected := is_rejected
            OR outcome IN ('channel_mismatch', 'duplicate', 'closed', 'wrong_version');
        IF outcome <> 'checked' OR is_retry THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    -- Nothing is written before this, so that a rejection wastes no position.
    IF NOT is_rejected AND NOT is_retry THEN
        -- Each row once, even if the list contains its stream several times: row versions of one
        -- transaction are searched one by one.
        FOR current_name, added IN
            SELECT entry ->> 'stream', sum(jsonb_array_length(entry -> 'events'))
            FROM jsonb_array_elements(appends) AS entries (entry)
            GROUP BY 1
            HAVING sum(jsonb_array_length(entry -> 'events')) > 0
        LOOP
            UPDATE indelible.streams SET version = streams.version + added
            WHERE streams.name = current_name;
        END LOOP;
        FOR item, ordinal, later IN
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
            details := NULL;
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
    IF created <> '{}' THEN
        DELETE FROM indelible.streams WHERE streams.id = ANY(created) AND streams.version = -1;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.append_many(jsonb) IS
    'Appends to several streams, [{stream, channel, expected, events}, …], all or none, in the order of the list. One row an entry: appended, checked (no events) or idempotent; or only the rejected entries. Outcomes and expected versions as in append(); one row has all duplicates.';
