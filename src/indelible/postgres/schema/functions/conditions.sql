-- Conditions that cross streams (Dynamic Consistency Boundary, dcb.events).
-- docs/explanation/dcb.md explains the locks, and why a condition holds.

-- The predicate of a query, in one place. The planner inlines it, which needs a STABLE function
-- without SET and SECURITY DEFINER.
CREATE OR REPLACE FUNCTION indelible.matching_items(
    items jsonb, type text, tags text[], channel text, stream text
)
RETURNS SETOF boolean
LANGUAGE sql
STABLE
AS $$
    SELECT true
    FROM jsonb_to_recordset(items)
        AS item (types text[], tags text[], channel text, stream text, stream_prefix text)
    WHERE (item.types IS NULL OR matching_items.type = ANY(item.types))
        AND (item.tags IS NULL OR matching_items.tags @> item.tags)
        AND (item.channel IS NULL OR matching_items.channel = item.channel)
        AND (item.stream IS NULL OR matching_items.stream = item.stream)
        AND (item.stream_prefix IS NULL OR starts_with(matching_items.stream, item.stream_prefix))
$$;
COMMENT ON FUNCTION indelible.matching_items(jsonb, text, text[], text, text) IS
    'A row for each item of a query, [{types, tags, channel, stream, stream_prefix}, …], that an event matches. For EXISTS.';

CREATE OR REPLACE FUNCTION indelible.check_conditions(conditions jsonb, require_tags boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    last_position constant jsonb
        := jsonb_build_object('last', coalesce(pg_sequence_last_value('indelible.events_position'), 0));
BEGIN
    -- invalid_markers() checks a marker that names its epoch, also beyond the last position.
    -- One expression: a loop would take many times as long.
    IF jsonb_path_match(
        conditions,
        '$.type() == "array"
        && !exists($[*].type() ? (@ != "object"))
        && !exists($[*].keyvalue().key ? (
            @ != "items" && @ != "after" && @ != "seen" && @ != "epoch" && @ != "at"
        ))
        && !exists($[*] ? (!(
            @.after.type() == "number" && @.after >= 0
            && (@.after <= $last || exists(@.epoch))
            && @.seen.type() == "array"
            && @.items.type() == "array" && @.items.size() > 0
        )))
        && !exists($[*].seen[*].type() ? (@ != "number"))
        && !exists($[*].items[*].type() ? (@ != "object"))
        && !exists($[*].items[*].keyvalue().key ? (
            @ != "types" && @ != "tags" && @ != "channel" && @ != "stream"
            && @ != "stream_prefix"
        ))
        && !exists($[*].items[*].keyvalue() ? (
            (@.key == "types" || @.key == "tags") && @.value.type() != "null" && (
                @.value.type() != "array"
                || @.value.size() == 0
                || exists(@.value[*].type() ? (@ != "string"))
            )
            || (@.key == "channel" || @.key == "stream" || @.key == "stream_prefix")
            && @.value.type() != "null" && @.value.type() != "string"
        ))',
        last_position
    ) IS NOT TRUE THEN
        IF jsonb_path_exists(conditions, '$[*] ? (!exists(@.epoch)).after ? (@ > $last)', last_position) THEN
            RAISE EXCEPTION 'the condition starts after position %, but the last position is %',
                jsonb_path_query_first(conditions, '$[*].after ? (@ > $last)', last_position),
                last_position -> 'last'
            USING ERRCODE = 'IND04',
                HINT = 'Read the events again, and pass the marker of that read.';
        END IF;
        RAISE EXCEPTION 'a condition is invalid: %', conditions
        USING ERRCODE = 'IND04',
            HINT = 'Pass a list of {"items": [{"types", "tags", "channel", "stream", "stream_prefix"}, …], "after": a position, "seen": [positions]}: each item names something, and "types" and "tags" are non-empty lists.';
    END IF;
    IF require_tags AND jsonb_path_exists(conditions, '$[*].items[*] ? (!(@.tags.type() == "array"))')
    THEN
        RAISE EXCEPTION 'an item of a condition names no tags: %', conditions
        USING ERRCODE = 'IND04',
            HINT = 'Pass it to append_conditional(), which locks out all other appends.';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.check_conditions(jsonb, boolean) IS
    'Raises IND04 if a condition is malformed, and would therefore be considered met.';

CREATE OR REPLACE FUNCTION indelible.conflicting_events(conditions jsonb)
RETURNS bigint[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    item record;
    conflicts bigint[] := '{}';
    found bigint[];
BEGIN
    FOR item IN
        SELECT
            (condition ->> 'after')::bigint AS after,
            ARRAY(SELECT jsonb_array_elements_text(condition -> 'seen')::bigint) AS seen,
            items.types,
            items.tags,
            items.channel,
            items.stream,
            items.stream_prefix
        FROM jsonb_array_elements(conditions) AS given (condition)
        CROSS JOIN LATERAL jsonb_to_recordset(condition -> 'items')
            AS items (types text[], tags text[], channel text, stream text, stream_prefix text)
    LOOP
        IF item.tags IS NULL THEN
            found := ARRAY(
                SELECT events.position
                FROM indelible.all_events AS events
                LEFT JOIN indelible.streams ON streams.id = events.stream_id
                WHERE events.position > item.after
                    AND NOT events.position = ANY(item.seen)
                    AND (item.types IS NULL OR events.type = ANY(item.types))
                    AND (item.channel IS NULL OR streams.channel = item.channel)
                    AND (item.stream IS NULL OR streams.name = item.stream)
                    AND (item.stream_prefix IS NULL OR starts_with(streams.name, item.stream_prefix))
                ORDER BY events.position
                LIMIT 10
            );
        ELSE
            found := ARRAY(
                SELECT events.position
                FROM indelible.event_tags
                JOIN indelible.all_events AS events ON events.position = event_tags.position
                LEFT JOIN indelible.streams ON streams.id = events.stream_id
                WHERE event_tags.tag = item.tags[1]
                    AND event_tags.position > item.after
                    AND NOT event_tags.position = ANY(item.seen)
                    AND events.tags @> item.tags
                    AND (item.types IS NULL OR events.type = ANY(item.types))
                    AND (item.channel IS NULL OR streams.channel = item.channel)
                    AND (item.stream IS NULL OR streams.name = item.stream)
                    AND (item.stream_prefix IS NULL OR starts_with(streams.name, item.stream_prefix))
                ORDER BY event_tags.position
                LIMIT 10
            );
        END IF;
        conflicts := conflicts || found;
    END LOOP;
    RETURN ARRAY(
        SELECT DISTINCT position FROM unnest(conflicts) AS found (position)
        ORDER BY position
        LIMIT 10
    );
END
$$;
COMMENT ON FUNCTION indelible.conflicting_events(jsonb) IS
    'The first events after the position of a condition that it has not seen and that match one of its items: [{items, after, seen}, …].';

CREATE OR REPLACE FUNCTION indelible.invalid_markers(conditions jsonb)
RETURNS jsonb
LANGUAGE plpgsql
AS $$
BEGIN
    -- Usually the event at the marker's position is still there.
    IF NOT EXISTS (
        SELECT
        FROM jsonb_array_elements(conditions) AS given (condition)
        LEFT JOIN indelible.all_events AS events
            ON events.position = (condition ->> 'after')::bigint
            AND events.id = (condition ->> 'at')::uuid
        WHERE condition ? 'epoch' AND events.id IS NULL
    ) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT jsonb_agg(
            jsonb_build_object(
                'position', condition -> 'after',
                'id', condition -> 'at',
                'epoch', condition -> 'epoch',
                'today', checked.epoch,
                'safe_through', checked.safe_through
            )
        )
        FROM jsonb_array_elements(conditions) AS given (condition)
        CROSS JOIN LATERAL indelible.check_checkpoint(
            (condition ->> 'epoch')::uuid,
            (condition ->> 'after')::bigint,
            (condition ->> 'after')::bigint,
            (condition ->> 'at')::uuid
        ) AS checked
        WHERE condition ? 'epoch' AND NOT checked.is_valid
    );
END
$$;
COMMENT ON FUNCTION indelible.invalid_markers(jsonb) IS
    'The conditions whose markers belong to a log that was truncated by a restore; null without such a marker. A condition may name the epoch of its marker and the id of the event there: {after, epoch, at, …}.';

CREATE OR REPLACE FUNCTION indelible.check_isolation()
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'a condition cannot be checked in a % transaction: its snapshot may be older than what it waited for',
            current_setting('transaction_isolation')
        USING ERRCODE = 'IND02', HINT = 'Append with a condition in a READ COMMITTED transaction.';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.check_isolation() IS
    'Raises IND02 in transactions in which a later statement does not see concurrent commits.';

CREATE OR REPLACE FUNCTION indelible.append_conditional(appends jsonb, conditions jsonb)
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
    conflicts bigint[];
    invalid jsonb;
    existing record;
BEGIN
    PERFORM indelible.check_isolation();
    PERFORM indelible.check_conditions(conditions);
    -- Any event that matches an item has all its tags: it is enough to lock one of them.
    PERFORM indelible.lock_for_append(
        indelible.distinct_tags(jsonb_path_query_array(appends, '$[*].events[*].tags[*]')),
        ARRAY(
            SELECT item -> 'tags' ->> 0
            FROM jsonb_array_elements(conditions) AS given (condition),
                jsonb_array_elements(condition -> 'items') AS items (item)
            WHERE item -> 'tags' ->> 0 IS NOT NULL
        ),
        EXISTS (
            SELECT
            FROM jsonb_array_elements(conditions) AS given (condition),
                jsonb_array_elements(condition -> 'items') AS items (item)
            WHERE item -> 'tags' ->> 0 IS NULL
        )
    );
    -- In a later statement, which sees all that was committed before the locks were taken.
    conflicts := indelible.conflicting_events(conditions);
    invalid := indelible.invalid_markers(conditions);
    IF conflicts <> '{}' OR invalid IS NOT NULL THEN
        -- A retry of a successful append conflicts with its own events; it succeeds again.
        SELECT * INTO existing FROM indelible.find_existing_events(appends);
        IF existing.existing_count = 0 THEN
            ordinal := 0;
            outcome := CASE WHEN invalid IS NULL THEN 'condition_failed' ELSE 'epoch_mismatch' END;
            details := coalesce(invalid, to_jsonb(conflicts));
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF jsonb_array_length(appends) = 1 AND jsonb_array_length(appends -> 0 -> 'events') > 0 THEN
        -- The faster path, as for a single append.
        RETURN QUERY
            SELECT 1::bigint, appended.*
            FROM indelible.append(
                appends -> 0 ->> 'stream',
                appends -> 0 ->> 'channel',
                (appends -> 0 ->> 'expected')::bigint,
                appends -> 0 -> 'events'
            ) AS appended;
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM indelible.append_many(appends);
END
$$;
COMMENT ON FUNCTION indelible.append_conditional(jsonb, jsonb) IS
    'Appends as append_many() does, unless an event matches one of the conditions [{items, after, seen}, …] after its position and is not among those seen: then one row, condition_failed, with the positions of such events. A marker of a log that was truncated by a restore gives epoch_mismatch.';

CREATE OR REPLACE FUNCTION indelible.read_matching(items jsonb)
RETURNS TABLE (
    "position" bigint,
    stream text,
    version bigint,
    id uuid,
    type text,
    data jsonb,
    metadata jsonb,
    tags text[],
    channel text,
    recorded_at timestamptz,
    valid_at timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    -- Before the statement that reads: all settled events are visible to it.
    settled constant record := indelible.head_state();
BEGIN
    position := settled.head;
    id := settled.event_id;
    channel := settled.epoch;
    RETURN NEXT;
    IF EXISTS (SELECT FROM jsonb_array_elements(items) AS given (item) WHERE item -> 'tags' ->> 0 IS NULL)
    THEN
        RETURN QUERY
            SELECT
                recorded.position, recorded.stream, recorded.version, recorded.id,
                recorded.type, recorded.data, recorded.metadata, recorded.tags, recorded.channel,
                recorded.recorded_at, recorded.valid_at
            FROM indelible.recorded_events AS recorded
            WHERE EXISTS (
                SELECT
                FROM jsonb_to_recordset(items)
                    AS given (types text[], tags text[], channel text, stream text, stream_prefix text)
                WHERE (given.types IS NULL OR recorded.type = ANY(given.types))
                    AND (given.tags IS NULL OR recorded.tags @> given.tags)
                    AND (given.channel IS NULL OR recorded.channel = given.channel)
                    AND (given.stream IS NULL OR recorded.stream = given.stream)
                    AND (given.stream_prefix IS NULL OR starts_with(recorded.stream, given.stream_prefix))
            )
            ORDER BY recorded.position;
    ELSE
        RETURN QUERY
            SELECT
                recorded.position, recorded.stream, recorded.version, recorded.id,
                recorded.type, recorded.data, recorded.metadata, recorded.tags, recorded.channel,
                recorded.recorded_at, recorded.valid_at
            FROM (
                SELECT DISTINCT event_tags.position
                FROM jsonb_to_recordset(items)
                    AS given (types text[], tags text[], channel text, stream text, stream_prefix text)
                JOIN indelible.event_tags ON event_tags.tag = given.tags[1]
                JOIN indelible.recorded_events AS tagged ON tagged.position = event_tags.position
                WHERE tagged.tags @> given.tags
                    AND (given.types IS NULL OR tagged.type = ANY(given.types))
                    AND (given.channel IS NULL OR tagged.channel = given.channel)
                    AND (given.stream IS NULL OR tagged.stream = given.stream)
                    AND (given.stream_prefix IS NULL OR starts_with(tagged.stream, given.stream_prefix))
            ) AS found
            JOIN indelible.recorded_events AS recorded ON recorded.position = found.position
            ORDER BY recorded.position;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.read_matching(jsonb) IS
    'First a row without a stream: the head, the id of the event there, and the epoch (as channel). Then every visible event that matches any of the items, settled or not, in order of position.';
