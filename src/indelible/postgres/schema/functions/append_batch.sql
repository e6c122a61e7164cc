-- Group commit: the appends of many callers in one statement and one commit, each with its own
-- outcome. docs/explanation/appends.md explains how failures are isolated.

CREATE OR REPLACE FUNCTION indelible.explain_rejections(appends jsonb, ordinals bigint[])
RETURNS TABLE (
    ordinal bigint,
    outcome text,
    last_version bigint,
    last_position bigint,
    recorded_at timestamptz,
    details jsonb
)
LANGUAGE sql
AS $$
    SELECT
        ordinals.ordinal,
        CASE
            -- The condition holds after all: another writer has changed the stream since the check.
            WHEN refused.outcome = 'wrong_version' AND (
                refused.last_version = (item ->> 'expected')::bigint
                OR (item ->> 'expected')::bigint = -2
                OR (item ->> 'expected')::bigint = -4 AND refused.last_version >= 0
            ) THEN 'contended'
            ELSE refused.outcome
        END,
        refused.last_version,
        refused.last_position,
        refused.recorded_at,
        refused.details
    FROM unnest(ordinals) AS ordinals (ordinal)
    CROSS JOIN LATERAL (SELECT appends -> (ordinals.ordinal - 1)::integer AS item) AS entries
    CROSS JOIN LATERAL indelible.explain_rejection(
        item ->> 'stream', item ->> 'channel', (item ->> 'expected')::bigint, item -> 'events'
    ) AS refused
$$;
COMMENT ON FUNCTION indelible.explain_rejections(jsonb, bigint[]) IS
    'Why some appends of a batch were rejected, or the first result if one is a retry.';

CREATE OR REPLACE FUNCTION indelible.tag_locks(appends jsonb)
RETURNS TABLE (ordinal bigint, tag text, is_decided boolean)
LANGUAGE sql
STABLE  -- so that the planner inlines it
AS $$
    SELECT entries.ordinal, uses.tag, uses.is_decided
    FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, ordinal)
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
    'Which appends of a batch have a tag on an event, and which decide by it: it is the first tag of an item of their condition.';

CREATE OR REPLACE FUNCTION indelible.append_batch(appends jsonb)
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
-- A lock that cannot be skipped (a stream or an id that another transaction is inserting) fails the
-- batch soon, and its appends are sent one by one.
SET lock_timeout = '50ms'
AS $$
#variable_conflict use_column
DECLARE
    size constant integer := jsonb_array_length(appends);
    -- By ordinal in the list: the stream, the outcome, and the new version of the stream; -1 if nothing
    -- is appended.
    ids bigint[];
    outcomes text[] := array_fill('appended'::text, ARRAY[size]);
    last_versions bigint[];
    counts bigint[];
    -- How many streams there are, and whether each append fits the current version of its stream.
    stream_count bigint;
    all_fit boolean;
    -- As in append(): an expression, which is many times cheaper than a query.
    new_event_ids constant uuid[]
        := replace(replace(
            jsonb_path_query_array(appends, '$[*].events[*].id')::text, '[', '{'), ']', '}'
        );
    -- Those that are stored already, and the ordinals of their appends.
    existing_ids uuid[];
    existing bigint[] := '{}';
    -- The streams that this batch creates, in order of name.
    new_ids bigint[] := '{}';
    new_names text[] := '{}';
    new_channels text[] := '{}';
    new_versions bigint[] := '{}';
    -- Those whose version it increases.
    changed_ids bigint[] := '{}';
    changed_versions bigint[] := '{}';
    -- The ordinals of rejected appends: because of earlier events, and because of events of this batch.
    refused_before bigint[] := '{}';
    refused_after bigint[] := '{}';
    -- Why a condition failed: the positions of conflicting events.
    reasons jsonb[] := array_fill(NULL::jsonb, ARRAY[size]);
    has_tags constant boolean := jsonb_path_exists(appends, '$[*].events[*].tags[*]');
    has_conditions constant boolean := jsonb_path_exists(appends, '$[*].conditions');
    -- The server's lock table is limited, and shared by all sessions.
    max_locks constant bigint := 4 * current_setting('max_locks_per_transaction')::integer;
    -- The ordinals of appends whose tags another append locks, in this batch or in another transaction.
    contended bigint[] := '{}';
    -- Those with a condition on a tag that later events have, or with a marker to be checked.
    to_check bigint[] := '{}';
    conflicts bigint[];
    invalid jsonb;
    entry record;
    current_name text;
    current_id bigint;
    current_channel text;
    current_version bigint;
    is_new boolean;
    is_changed boolean;
    is_refused boolean;
    is_contended boolean;
    created bigint;
    not_created bigint[];
    positions bigint[];
    -- How many of them are returned already.
    reported bigint := 0;
    taken_at timestamptz;
    -- For the results of functions called in an expression, which costs a fraction of a statement.
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
        -- Earlier events of the batch have no position yet, so a condition cannot see them: of the
        -- appends that share a tag, one that decides by it is accepted only if it is the first.
        -- Appends that would take too many locks, together with earlier ones, are contended, too.
        contended := ARRAY(
            SELECT ordinal
            FROM (
                SELECT
                    ordinal,
                    tag,
                    is_decided,
                    turn,
                    sum(is_first::integer) OVER (ORDER BY ordinal) AS locks
                FROM (
                    SELECT
                        ordinal,
                        tag,
                        is_decided,
                        dense_rank() OVER by_tag AS turn,
                        row_number() OVER by_tag = 1 AS is_first
                    FROM indelible.tag_locks(appends)
                    WINDOW by_tag AS (PARTITION BY tag ORDER BY ordinal)
                ) AS uses
            ) AS uses
            WHERE CASE
                WHEN locks > max_locks THEN true
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
    -- The rows of the streams, locked: each version is the one that the last writer left. Rows
    -- locked by another transaction are skipped, so that no append waits for another one's stream.
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
            -- No row: the stream is locked elsewhere, or does not exist; that is checked below.
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
    existing_ids := ARRAY(SELECT events.id FROM indelible.events WHERE events.id = ANY(new_event_ids));
    IF pg_sequence_last_value('indelible.archive_count') IS NOT NULL THEN
        existing_ids := existing_ids || indelible.archived_ids(new_event_ids);
    END IF;
    IF existing_ids <> '{}' THEN
        existing := ARRAY(
            SELECT number
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number),
                jsonb_array_elements(item -> 'events') AS events (event)
            WHERE (event ->> 'id')::uuid = ANY(existing_ids)
        );
    END IF;
    IF has_conditions THEN
        to_check := ARRAY(
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
                -- Or with a marker that has to be checked.
                OR condition ? 'epoch' AND NOT EXISTS (
                    SELECT
                    FROM indelible.all_events AS events
                    WHERE events.position = (condition ->> 'after')::bigint
                        AND events.id = (condition ->> 'at')::uuid
                )
        );
    END IF;

    all_fit := all_fit
        AND stream_count = size AND existing = '{}' AND contended = '{}' AND to_check = '{}';
    IF all_fit THEN
        -- Each append has its own stream and nothing conflicts, so they need no individual checks.
        changed_ids := ids;
        changed_versions := last_versions;
        IF array_position(ids, NULL) IS NOT NULL THEN
            FOR entry IN
                SELECT
                    number,
                    item ->> 'stream' AS name,
                    item ->> 'channel' AS given_channel,
                    -- Not EXISTS, which the planner might turn into a hash table of all streams.
                    (
                        SELECT true FROM indelible.streams WHERE streams.name = item ->> 'stream'
                    ) AS is_locked_elsewhere
                FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number)
                WHERE ids[number] IS NULL
                ORDER BY (item ->> 'stream') COLLATE "C"
            LOOP
                IF entry.is_locked_elsewhere THEN
                    outcomes[entry.number] := 'contended';
                    last_versions[entry.number] := -1;
                    all_fit := false;
                    CONTINUE;
                END IF;
                current_id := nextval('indelible.streams_id_seq');
                ids[entry.number] := current_id;
                new_ids := new_ids || current_id;
                new_names := new_names || entry.name;
                new_channels := new_channels
                    || coalesce(entry.given_channel, split_part(entry.name, '-', 1));
                new_versions := new_versions || last_versions[entry.number];
            END LOOP;
            IF cardinality(new_ids) = size THEN
                changed_ids := '{}';
            END IF;
        END IF;
    ELSE
        outcomes := array_fill(NULL::text, ARRAY[size]);
        last_versions := array_fill(-1::bigint, ARRAY[size]);
        -- The appends to one stream follow each other, each at the version after the previous one.
        FOR entry IN
            SELECT
                number,
                item,
                item ->> 'stream' AS name,
                item ->> 'channel' AS given_channel,
                (item ->> 'expected')::bigint AS expected,
                jsonb_array_length(item -> 'events') AS added,
                locked.id,
                locked.version,
                locked.channel,
                locked.closed_at,
                locked.id IS NULL AND (
                    SELECT true FROM indelible.streams WHERE streams.name = item ->> 'stream'
                ) AS is_locked_elsewhere
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (item, number)
            LEFT JOIN indelible.streams AS locked ON locked.id = ids[number]
            ORDER BY (item ->> 'stream') COLLATE "C", number
        LOOP
            IF entry.expected IS NULL OR entry.expected < -1 AND entry.expected NOT IN (-2, -4)
                OR coalesce(entry.added, 0) = 0
            THEN
                RAISE EXCEPTION 'entry % is not a valid append', entry.number
                USING ERRCODE = 'IND04',
                    HINT = 'Pass a version, -1 (no stream), -2 (any) or -4 (stream exists), and at least one event.';
            END IF;
            IF current_name IS DISTINCT FROM entry.name THEN
                current_name := entry.name;
                current_id := entry.id;
                current_channel := entry.channel;
                current_version := coalesce(entry.version, -1);
                is_new := current_id IS NULL;
                is_changed := false;
                is_refused := false;
                is_contended := entry.is_locked_elsewhere IS TRUE;
            END IF;
            is_contended := is_contended OR entry.number = ANY(contended);
            conflicts := '{}';
            invalid := NULL;
            IF entry.number = ANY(to_check) AND NOT entry.number = ANY(existing) THEN
                conflicts := indelible.conflicting_events(entry.item -> 'conditions');
                invalid := indelible.invalid_markers(entry.item -> 'conditions');
            END IF;
            IF is_contended THEN
                outcomes[entry.number] := 'contended';
            ELSIF invalid IS NOT NULL THEN
                outcomes[entry.number] := 'epoch_mismatch';
                reasons[entry.number] := invalid;
            ELSIF conflicts <> '{}' THEN
                outcomes[entry.number] := 'condition_failed';
                reasons[entry.number] := to_jsonb(conflicts);
            ELSIF entry.number = ANY(existing)
                OR entry.closed_at IS NOT NULL
                OR entry.given_channel <> current_channel
                OR entry.expected >= -1 AND entry.expected <> current_version
                OR entry.expected = -4 AND current_version = -1
            THEN
                IF is_changed THEN
                    is_refused := true;
                    refused_after := refused_after || entry.number;
                ELSE
                    refused_before := refused_before || entry.number;
                END IF;
            ELSIF is_refused THEN
                -- A rejection would have to report a version between two appends of this batch: the
                -- rest of the stream's appends go into another batch.
                is_contended := true;
                outcomes[entry.number] := 'contended';
            ELSE
                current_version := current_version + entry.added;
                IF is_changed THEN
                    IF is_new THEN
                        new_versions[cardinality(new_versions)] := current_version;
                    ELSE
                        changed_versions[cardinality(changed_versions)] := current_version;
                    END IF;
                ELSIF is_new THEN
                    current_id := nextval('indelible.streams_id_seq');
                    current_channel := coalesce(entry.given_channel, split_part(current_name, '-', 1));
                    new_ids := new_ids || current_id;
                    new_names := new_names || current_name;
                    new_channels := new_channels || current_channel;
                    new_versions := new_versions || current_version;
                ELSE
                    changed_ids := changed_ids || current_id;
                    changed_versions := changed_versions || current_version;
                END IF;
                is_changed := true;
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
        GET DIAGNOSTICS created = ROW_COUNT;
        IF created < cardinality(new_ids) THEN  -- other transactions created the same streams
            SELECT array_agg(given.id) INTO not_created
            FROM unnest(new_ids) AS given (id)
            LEFT JOIN indelible.streams ON streams.id = given.id
            WHERE streams.id IS NULL;
            FOR ordinal IN 1 .. size LOOP
                IF ids[ordinal] = ANY(not_created) THEN
                    outcomes[ordinal] := 'contended';
                    last_versions[ordinal] := -1;
                    all_fit := false;
                END IF;
            END LOOP;
        END IF;
    END IF;
    IF cardinality(changed_ids) > 0 THEN
        -- Not a join: a plan made for a small table would scan it whole.
        UPDATE indelible.streams
        SET version = changed_versions[array_position(changed_ids, streams.id)]
        WHERE streams.id = ANY(changed_ids);
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
                last_versions[number] - counts[number] + event_ordinal,
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
                jsonb_array_elements(item -> 'events') WITH ORDINALITY AS events (event, event_ordinal)
            WHERE last_versions[number] >= 0
            ORDER BY number, event_ordinal
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
        ordinal := number;
        outcome := outcomes[number];
        last_version := NULL;
        last_position := NULL;
        details := reasons[number];
        IF outcome = 'appended' THEN
            reported := reported + counts[number];
            last_version := last_versions[number];
            last_position := positions[reported];
        END IF;
        RETURN NEXT;
    END LOOP;
    IF cardinality(refused_after) > 0 THEN
        RETURN QUERY SELECT * FROM indelible.explain_rejections(appends, refused_after);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.append_batch(jsonb) IS
    'Appends to streams, [{stream, channel, expected, events, conditions}, …], each entry alone: one row an entry, outcomes and expected versions as in append(), conditions (each item of which names a tag) as in append_conditional(), or contended: not checked, because another transaction locks its stream or its tags.';
