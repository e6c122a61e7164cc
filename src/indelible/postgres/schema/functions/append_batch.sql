-- Group commit: the appends of many callers in one statement and one commit, each with an outcome
-- of its own. docs/explanation/appends.md tells why none of them harms another.

CREATE OR REPLACE FUNCTION indelible.explain_rejections(appends jsonb, places bigint[])
RETURNS TABLE (
    place bigint,
    outcome text,
    last_version bigint,
    last_position bigint,
    recorded_at timestamptz,
    facts jsonb
)
LANGUAGE sql
AS $$
    SELECT
        places.place,
        CASE
            -- It holds after all: others have been at work since it was looked at.
            WHEN refused.outcome = 'wrong_version' AND (
                refused.last_version = (item ->> 'expected')::bigint
                OR (item ->> 'expected')::bigint = -2
                OR (item ->> 'expected')::bigint = -4 AND refused.last_version >= 0
            ) THEN 'busy'
            ELSE refused.outcome
        END,
        refused.last_version,
        refused.last_position,
        refused.recorded_at,
        refused.facts
    FROM unnest(places) AS places (place)
    CROSS JOIN LATERAL (SELECT appends -> (places.place - 1)::integer AS item) AS entries
    CROSS JOIN LATERAL indelible.explain_rejection(
        item ->> 'stream', item ->> 'channel', (item ->> 'expected')::bigint, item -> 'events'
    ) AS refused
$$;
COMMENT ON FUNCTION indelible.explain_rejections(jsonb, bigint[]) IS
    'Why some appends of a batch were refused, or the first result where one is a retry.';

CREATE OR REPLACE FUNCTION indelible.tag_locks(appends jsonb)
RETURNS TABLE (place bigint, tag text, is_decided boolean)
LANGUAGE sql
STABLE  -- so that it becomes part of the statement that asks
AS $$
    SELECT entries.place, uses.tag, uses.is_decided
    FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, place)
    CROSS JOIN LATERAL (
        SELECT
            jsonb_array_elements_text(jsonb_path_query_array(item, '$.events[*].tags[*]')), false
        UNION ALL
        SELECT
            jsonb_array_elements_text(
                jsonb_path_query_array(item, '$.conditions[*].items[*].tags[0]')
            ),
            true
    ) AS uses (tag, is_decided)
$$;
COMMENT ON FUNCTION indelible.tag_locks(jsonb) IS
    'Which appends of a batch have a tag on an event, and which decide by it: a condition has an item whose first tag it is.';

CREATE OR REPLACE FUNCTION indelible.append_batch(appends jsonb)
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
-- What cannot be passed over (a stream that is just being made, an id that is just being stored) fails
-- the batch soon, and its appends are made one by one.
SET lock_timeout = '50ms'
AS $$
#variable_conflict use_column
DECLARE
    size constant integer := jsonb_array_length(appends);
    -- By place in the list: the stream, the outcome, and the stream's version then; -1 where nothing
    -- is appended.
    ids bigint[];
    outcomes text[] := array_fill('appended'::text, ARRAY[size]);
    last_versions bigint[];
    counts bigint[];
    -- How many streams they are of, and whether each append fits its stream as it stands.
    stream_count bigint;
    all_fit boolean;
    -- As in append(): an expression, which a query is many times dearer than.
    new_event_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(appends, '$[*].events[*].id')::text, '[', '{'), ']', '}'
        );
    -- Those that are in the store already, and the places of the appends that they are of.
    known_ids uuid[];
    known bigint[] := '{}';
    -- The streams that this batch makes, in order of name.
    new_ids bigint[] := '{}';
    new_names text[] := '{}';
    new_channels text[] := '{}';
    new_versions bigint[] := '{}';
    -- Those that it moves on.
    moved_ids bigint[] := '{}';
    moved_versions bigint[] := '{}';
    -- The places of what is refused: by what was there before this batch, and by what is then.
    refused_before bigint[] := '{}';
    refused_after bigint[] := '{}';
    -- Why a condition failed: the positions of what is in its way.
    reasons jsonb[] := array_fill(NULL::jsonb, ARRAY[size]);
    has_tags constant boolean := jsonb_path_exists(appends, '$[*].events[*].tags[*]');
    has_conditions constant boolean := jsonb_path_exists(appends, '$[*].conditions');
    -- The lock table of the server is finite, and of all.
    most_locks constant bigint := 4 * current_setting('max_locks_per_transaction')::integer;
    -- The places of appends that are at work on the tags of others: in this batch, or elsewhere.
    contended bigint[] := '{}';
    -- Those with a condition on a tag that events after it have, or with a marker to be looked at.
    doubtful bigint[] := '{}';
    in_the_way bigint[];
    lost jsonb;
    entry record;
    current_name text;
    current_id bigint;
    current_channel text;
    current_version bigint;
    is_new boolean;
    is_moved boolean;
    is_refused boolean;
    is_busy boolean;
    made bigint;
    not_made bigint[];
    positions bigint[];
    -- How many of them have been told.
    told bigint := 0;
    taken_at timestamptz;
    -- What functions give that are called in an expression, which costs a fraction of a statement.
    unused boolean;
BEGIN
    LOCK TABLE indelible.append_lock IN ROW EXCLUSIVE MODE;
    IF has_conditions THEN
        unused := indelible.check_isolation() IS NULL;
        FOR number IN 0 .. size - 1 LOOP
            IF appends -> number ? 'conditions' THEN
                unused := indelible.check_conditions(appends -> number -> 'conditions', true) IS NULL;
            END IF;
        END LOOP;
    END IF;
    IF has_tags OR has_conditions THEN
        -- What is before it in the batch has no position yet that a condition could see: of those
        -- that share a tag, one that decides by it comes in where it is the first. Those that would
        -- take too many locks, together with the ones before them, are left to go alone.
        contended := ARRAY(
            SELECT place
            FROM (
                SELECT
                    place,
                    tag,
                    is_decided,
                    turn,
                    sum(is_first::integer) OVER (ORDER BY place) AS locks
                FROM (
                    SELECT
                        place,
                        tag,
                        is_decided,
                        dense_rank() OVER by_tag AS turn,
                        row_number() OVER by_tag = 1 AS is_first
                    FROM indelible.tag_locks(appends)
                    WINDOW by_tag AS (PARTITION BY tag ORDER BY place)
                ) AS uses
            ) AS uses
            WHERE CASE
                WHEN locks > most_locks THEN true
                WHEN NOT is_decided THEN NOT pg_try_advisory_xact_lock_shared(
                    indelible.store_lock_key()::integer, indelible.tag_lock_key(tag)
                )
                WHEN turn > 1 THEN true
                ELSE NOT pg_try_advisory_xact_lock(
                    indelible.store_lock_key()::integer, indelible.tag_lock_key(tag)
                )
            END
        );
    END IF;
    -- The rows of the streams, locked: each version is the one that its last writer left. A row
    -- that another transaction holds is passed over, so that nobody waits for a neighbour.
    SELECT
        array_agg(given.id ORDER BY given.number),
        array_agg(given.version + given.added ORDER BY given.number),
        array_agg(given.added ORDER BY given.number),
        count(DISTINCT given.name),
        bool_and(coalesce(given.fits, false))
    INTO ids, last_versions, counts, stream_count, all_fit
    FROM (
        SELECT
            number,
            item ->> 'stream' AS name,
            locked.id,
            coalesce(locked.version, -1) AS version,
            jsonb_array_length(item -> 'events') AS added,
            -- Where there is no row it may be held, or there may be none: that shows below.
            jsonb_array_length(item -> 'events') > 0
            AND locked.closed_at IS NULL
            AND coalesce(item ->> 'channel' = locked.channel, true)
            AND (
                (item ->> 'expected')::bigint = coalesce(locked.version, -1)
                OR (item ->> 'expected')::bigint = -2
                OR (item ->> 'expected')::bigint = -4 AND locked.version >= 0
            ) AS fits
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number)
        LEFT JOIN LATERAL (
            SELECT streams.id, streams.version, streams.channel, streams.closed_at
            FROM indelible.streams
            WHERE streams.name = item ->> 'stream'
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS locked ON true
    ) AS given;
    -- Later statements than the locks, which see all that was committed before them.
    known_ids := ARRAY(SELECT events.id FROM indelible.events WHERE events.id = ANY(new_event_ids));
    IF pg_sequence_last_value('indelible.archive_count') IS NOT NULL THEN
        known_ids := known_ids || indelible.archived_ids(new_event_ids);
    END IF;
    IF known_ids <> '{}' THEN
        known := ARRAY(
            SELECT number
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number),
                jsonb_array_elements(item -> 'events') AS events (event)
            WHERE (event ->> 'id')::uuid = ANY(known_ids)
        );
    END IF;
    IF has_conditions THEN
        doubtful := ARRAY(
            SELECT number
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number)
            CROSS JOIN LATERAL jsonb_array_elements(item -> 'conditions')
                AS conditions (condition)
            WHERE EXISTS (
                SELECT
                FROM indelible.event_tags
                WHERE event_tags.tag = ANY(ARRAY(
                        SELECT jsonb_array_elements_text(
                            jsonb_path_query_array(condition, '$.items[*].tags[0]')
                        )
                    ))
                    AND event_tags.position > (condition ->> 'after')::bigint
            )
                -- Or with a marker that has to be looked at.
                OR condition ? 'epoch' AND NOT EXISTS (
                    SELECT
                    FROM indelible.all_events AS events
                    WHERE events.position = (condition ->> 'after')::bigint
                        AND events.id = (condition ->> 'at')::uuid
                )
        );
    END IF;

    all_fit := all_fit
        AND stream_count = size AND known = '{}' AND contended = '{}' AND doubtful = '{}';
    IF all_fit THEN
        -- Each is of a stream of its own, and nothing is in its way: there is nothing to decide one
        -- by one.
        moved_ids := ids;
        moved_versions := last_versions;
        IF array_position(ids, NULL) IS NOT NULL THEN
            FOR entry IN
                SELECT
                    number,
                    item ->> 'stream' AS name,
                    item ->> 'channel' AS wanted_channel,
                    -- Not EXISTS, which might be made a hash table of all streams.
                    (
                        SELECT true FROM indelible.streams WHERE streams.name = item ->> 'stream'
                    ) AS is_passed_over
                FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number)
                WHERE ids[number] IS NULL
                ORDER BY (item ->> 'stream') COLLATE "C"
            LOOP
                IF entry.is_passed_over THEN
                    outcomes[entry.number] := 'busy';
                    last_versions[entry.number] := -1;
                    all_fit := false;
                    CONTINUE;
                END IF;
                current_id := nextval('indelible.streams_id_seq');
                ids[entry.number] := current_id;
                new_ids := new_ids || current_id;
                new_names := new_names || entry.name;
                new_channels := new_channels
                    || coalesce(entry.wanted_channel, split_part(entry.name, '-', 1));
                new_versions := new_versions || last_versions[entry.number];
            END LOOP;
            IF cardinality(new_ids) = size THEN
                moved_ids := '{}';
            END IF;
        END IF;
    ELSE
        outcomes := array_fill(NULL::text, ARRAY[size]);
        last_versions := array_fill(-1::bigint, ARRAY[size]);
        -- The appends to one stream follow each other, each at the version that the one before it
        -- leaves.
        FOR entry IN
            SELECT
                number,
                item,
                item ->> 'stream' AS name,
                item ->> 'channel' AS wanted_channel,
                (item ->> 'expected')::bigint AS expected,
                jsonb_array_length(item -> 'events') AS added,
                locked.id,
                locked.version,
                locked.channel,
                locked.closed_at,
                locked.id IS NULL AND (
                    SELECT true FROM indelible.streams WHERE streams.name = item ->> 'stream'
                ) AS is_passed_over
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number)
            LEFT JOIN indelible.streams AS locked ON locked.id = ids[number]
            ORDER BY (item ->> 'stream') COLLATE "C", number
        LOOP
            IF entry.expected IS NULL OR entry.expected < -1 AND entry.expected NOT IN (-2, -4)
                OR coalesce(entry.added, 0) = 0
            THEN
                RAISE EXCEPTION 'entry % is no append', entry.number
                USING ERRCODE = 'IND04',
                    HINT = 'Pass a version, -1 (no stream), -2 (any) or -4 (stream exists), and at least one event.';
            END IF;
            IF current_name IS DISTINCT FROM entry.name THEN
                current_name := entry.name;
                current_id := entry.id;
                current_channel := entry.channel;
                current_version := coalesce(entry.version, -1);
                is_new := current_id IS NULL;
                is_moved := false;
                is_refused := false;
                is_busy := entry.is_passed_over IS TRUE;
            END IF;
            is_busy := is_busy OR entry.number = ANY(contended);
            in_the_way := '{}';
            lost := NULL;
            IF entry.number = ANY(doubtful) AND NOT entry.number = ANY(known) THEN
                in_the_way := indelible.conflicting_events(entry.item -> 'conditions');
                lost := indelible.invalid_markers(entry.item -> 'conditions');
            END IF;
            IF is_busy THEN
                outcomes[entry.number] := 'busy';
            ELSIF lost IS NOT NULL THEN
                outcomes[entry.number] := 'epoch_mismatch';
                reasons[entry.number] := lost;
            ELSIF in_the_way <> '{}' THEN
                outcomes[entry.number] := 'condition_failed';
                reasons[entry.number] := to_jsonb(in_the_way);
            ELSIF entry.number = ANY(known)
                OR entry.closed_at IS NOT NULL
                OR entry.wanted_channel <> current_channel
                OR entry.expected >= -1 AND entry.expected <> current_version
                OR entry.expected = -4 AND current_version = -1
            THEN
                IF is_moved THEN
                    is_refused := true;
                    refused_after := refused_after || entry.number;
                ELSE
                    refused_before := refused_before || entry.number;
                END IF;
            ELSIF is_refused THEN
                -- What was refused would have to be told what was there between two appends of this
                -- batch: the rest of the stream waits for another.
                is_busy := true;
                outcomes[entry.number] := 'busy';
            ELSE
                current_version := current_version + entry.added;
                IF is_moved THEN
                    IF is_new THEN
                        new_versions[cardinality(new_versions)] := current_version;
                    ELSE
                        moved_versions[cardinality(moved_versions)] := current_version;
                    END IF;
                ELSIF is_new THEN
                    current_id := nextval('indelible.streams_id_seq');
                    current_channel := coalesce(entry.wanted_channel, split_part(current_name, '-', 1));
                    new_ids := new_ids || current_id;
                    new_names := new_names || current_name;
                    new_channels := new_channels || current_channel;
                    new_versions := new_versions || current_version;
                ELSE
                    moved_ids := moved_ids || current_id;
                    moved_versions := moved_versions || current_version;
                END IF;
                is_moved := true;
                outcomes[entry.number] := 'appended';
                ids[entry.number] := current_id;
                last_versions[entry.number] := current_version;
            END IF;
        END LOOP;
    END IF;

    IF cardinality(refused_before) > 0 THEN
        RETURN QUERY SELECT * FROM indelible.explain_rejections(appends, refused_before);
    END IF;
    IF cardinality(new_ids) > 0 THEN
        INSERT INTO indelible.streams (id, name, channel, version)
        OVERRIDING SYSTEM VALUE
        SELECT id, name, channel, version
        FROM unnest(new_ids, new_names, new_channels, new_versions)
            AS given (id, name, channel, version)
        ON CONFLICT ON CONSTRAINT streams_name_key DO NOTHING;
        GET DIAGNOSTICS made = ROW_COUNT;
        IF made < cardinality(new_ids) THEN  -- others made the same streams meanwhile
            SELECT array_agg(given.id) INTO not_made
            FROM unnest(new_ids) AS given (id)
            LEFT JOIN indelible.streams ON streams.id = given.id
            WHERE streams.id IS NULL;
            FOR place IN 1 .. size LOOP
                IF ids[place] = ANY(not_made) THEN
                    outcomes[place] := 'busy';
                    last_versions[place] := -1;
                    all_fit := false;
                END IF;
            END LOOP;
        END IF;
    END IF;
    IF cardinality(moved_ids) > 0 THEN
        -- Not joined: a plan made on a small table would read it whole.
        UPDATE indelible.streams
        SET version = moved_versions[array_position(moved_ids, streams.id)]
        WHERE streams.id = ANY(moved_ids);
    END IF;

    IF 'appended' = ANY(outcomes) THEN
        unused := indelible.lock_head();
        taken_at := clock_timestamp();
        WITH inserted AS (
            INSERT INTO indelible.events
                (position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at)
            SELECT
                nextval('indelible.events_position'),
                ids[number],
                last_versions[number] - counts[number] + event_place,
                taken_at,
                (event ->> 'id')::uuid,
                event ->> 'type',
                event -> 'data',
                event -> 'metadata',
                CASE WHEN event ? 'tags'
                    THEN ARRAY(SELECT jsonb_array_elements_text(event -> 'tags'))
                END,
                (event ->> 'valid_at')::timestamptz
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number),
                jsonb_array_elements(item -> 'events') WITH ORDINALITY AS events (event, event_place)
            WHERE last_versions[number] >= 0
            ORDER BY number, event_place
            RETURNING position
        )
        -- In the order in which they were inserted.
        SELECT array_agg(position) INTO positions FROM inserted;
        IF pg_sequence_last_value('indelible.archive_count') IS NOT NULL THEN
            unused := indelible.check_archived_ids(new_event_ids) IS NULL;
        END IF;
        IF has_tags THEN
            INSERT INTO indelible.event_tags (tag, position)
            SELECT DISTINCT tag, events.position
            FROM indelible.events
            CROSS JOIN LATERAL unnest(events.tags) AS given (tag)
            WHERE events.position = ANY(positions);
        END IF;
    END IF;

    recorded_at := taken_at;
    IF all_fit AND cardinality(positions) = size THEN  -- of one event each
        RETURN QUERY
        SELECT number, 'appended', version, position, taken_at, NULL::jsonb
        FROM unnest(last_versions, positions) WITH ORDINALITY AS given (version, position, number);
        RETURN;
    END IF;
    FOR number IN 1 .. size LOOP
        CONTINUE WHEN outcomes[number] IS NULL;
        place := number;
        outcome := outcomes[number];
        last_version := NULL;
        last_position := NULL;
        facts := reasons[number];
        IF outcome = 'appended' THEN
            told := told + counts[number];
            last_version := last_versions[number];
            last_position := positions[told];
        END IF;
        RETURN NEXT;
    END LOOP;
    IF cardinality(refused_after) > 0 THEN
        RETURN QUERY SELECT * FROM indelible.explain_rejections(appends, refused_after);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.append_batch(jsonb) IS
    'Appends to streams, [{stream, channel, expected, events, conditions}, …], each entry alone: one row an entry, outcomes and expected versions as in append(), conditions (each item of which names a tag) as in append_conditional(), or busy: not looked at, since another transaction is at work on its stream or its tags.';
