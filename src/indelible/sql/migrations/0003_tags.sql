-- Tags, and conditions that cross streams (Dynamic Consistency Boundary, dcb.events).
-- docs/explanation/consistency.md tells what is locked when, and why a condition holds.

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
    'Which events have a tag: narrow, so that "after a position" is a range of its index.';
COMMENT ON COLUMN indelible.event_tags.tag IS 'A label key:value.';
COMMENT ON COLUMN indelible.event_tags.position IS 'The event: events.position.';
INSERT INTO indelible.event_tags (tag, position)
SELECT DISTINCT tag, events.position
FROM indelible.events
CROSS JOIN LATERAL unnest(events.tags) AS given (tag);

CREATE TRIGGER event_tags_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.event_tags
FOR EACH STATEMENT EXECUTE FUNCTION indelible.refuse_change();
ALTER TABLE indelible.event_tags ENABLE ALWAYS TRIGGER event_tags_are_immutable;


-- Locks ---------------------------------------------------------------------------------------

-- Every appender holds this one, and a weak lock on a table costs next to nothing: the server keeps
-- it with the session. It is a table of its own because vacuum locks tables that hold something.
CREATE TABLE indelible.append_gate ();
COMMENT ON TABLE indelible.append_gate IS
    'Holds nothing. Whoever appends locks it, weakly; a condition without tags locks it against them.';

CREATE FUNCTION indelible.tag_key(tag text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext(tag COLLATE "C");
COMMENT ON FUNCTION indelible.tag_key(text) IS
    'The second key of a tag''s advisory lock; the first is the store''s number. Two tags that share one only wait for each other.';

CREATE FUNCTION indelible.each_once(tags jsonb)
RETURNS text[]
LANGUAGE plpgsql
AS $$
BEGIN
    IF tags = '[]' THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT array_agg(DISTINCT tag) FROM jsonb_array_elements_text(tags) AS given (tag));
END
$$;
COMMENT ON FUNCTION indelible.each_once(jsonb) IS 'The tags of a list, each once.';

CREATE FUNCTION indelible.lock_for_append(
    shared_tags text[], exclusive_tags text[] DEFAULT '{}', closes_gate boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    store constant integer := indelible.lock_number();
BEGIN
    -- The lock table of the server is finite: very many tags are one lock on everything.
    IF closes_gate OR cardinality(shared_tags) + cardinality(exclusive_tags) > 500 THEN
        LOCK TABLE indelible.append_gate IN SHARE ROW EXCLUSIVE MODE;
        RETURN;
    END IF;
    LOCK TABLE indelible.append_gate IN ROW EXCLUSIVE MODE;
    IF shared_tags = '{}' AND exclusive_tags = '{}' THEN
        RETURN;
    END IF;
    -- Each key once, in its strongest mode and in order: nobody waits in a circle.
    PERFORM CASE
        WHEN tags.is_exclusive THEN pg_advisory_xact_lock(store, tags.key)
        ELSE pg_advisory_xact_lock_shared(store, tags.key)
    END
    FROM (
        SELECT indelible.tag_key(given.name) AS key, bool_or(given.is_exclusive) AS is_exclusive
        FROM (
            SELECT name, false AS is_exclusive FROM unnest(shared_tags) AS tags (name)
            UNION ALL
            SELECT name, true FROM unnest(exclusive_tags) AS tags (name)
        ) AS given
        GROUP BY key
        ORDER BY key
    ) AS tags;
END
$$;
COMMENT ON FUNCTION indelible.lock_for_append(text[], text[], boolean) IS
    'Takes, until the transaction ends, what an append with these tags and conditions must hold.';


-- Conditions ----------------------------------------------------------------------------------

CREATE FUNCTION indelible.events_in_the_way(conditions jsonb)
RETURNS bigint[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    item record;
    in_the_way bigint[] := '{}';
    found bigint[];
BEGIN
    FOR item IN
        SELECT
            (condition ->> 'after')::bigint AS after,
            ARRAY(SELECT jsonb_array_elements_text(condition -> 'seen')::bigint) AS seen,
            items.types,
            items.tags,
            items.channel,
            items.stream_prefix
        FROM jsonb_array_elements(conditions) AS given (condition)
        CROSS JOIN LATERAL jsonb_to_recordset(condition -> 'items')
            AS items (types text[], tags text[], channel text, stream_prefix text)
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
                    AND (item.stream_prefix IS NULL OR starts_with(streams.name, item.stream_prefix))
                ORDER BY event_tags.position
                LIMIT 10
            );
        END IF;
        in_the_way := in_the_way || found;
    END LOOP;
    RETURN ARRAY(
        SELECT DISTINCT position FROM unnest(in_the_way) AS found (position)
        ORDER BY position
        LIMIT 10
    );
END
$$;
COMMENT ON FUNCTION indelible.events_in_the_way(jsonb) IS
    'The first events that stand after what a condition has seen and match one of its items: [{items, after, seen}, …].';

CREATE FUNCTION indelible.lost_markers(conditions jsonb)
RETURNS jsonb
LANGUAGE plpgsql
AS $$
BEGIN
    -- Mostly the event at the head that was read is where it was.
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
        WHERE condition ? 'epoch' AND NOT checked.is_good
    );
END
$$;
COMMENT ON FUNCTION indelible.lost_markers(jsonb) IS
    'The conditions whose markers are of a log that was cut back; null where there is none. A condition may name the epoch of its marker and the id of the event at it: {after, epoch, at, …}.';

CREATE FUNCTION indelible.check_isolation()
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
    'Refuses transactions in which a later statement does not see what was committed meanwhile.';

CREATE FUNCTION indelible.append_if(appends jsonb, conditions jsonb)
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
-- As in append(): plans are held to indexes, whatever the size of the tables was.
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
    in_the_way bigint[];
    lost jsonb;
    recalled record;
BEGIN
    PERFORM indelible.check_isolation();
    -- Any event that matches an item carries all its tags: one of them is enough to lock.
    PERFORM indelible.lock_for_append(
        indelible.each_once(jsonb_path_query_array(appends, '$[*].events[*].tags[*]')),
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
    -- In a later statement, which sees all that was committed before the locks were had.
    in_the_way := indelible.events_in_the_way(conditions);
    lost := indelible.lost_markers(conditions);
    IF in_the_way <> '{}' OR lost IS NOT NULL THEN
        -- A retry of what was appended before fails on its own events; it is a success again.
        SELECT * INTO recalled FROM indelible.recall(appends);
        IF recalled.known = 0 THEN
            place := 0;
            outcome := CASE WHEN lost IS NULL THEN 'condition_failed' ELSE 'epoch_mismatch' END;
            facts := coalesce(lost, to_jsonb(in_the_way));
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF jsonb_array_length(appends) = 1 AND jsonb_array_length(appends -> 0 -> 'events') > 0 THEN
        -- The shorter way, as with an append alone.
        RETURN QUERY
            SELECT 1::bigint, one.*
            FROM indelible.append(
                appends -> 0 ->> 'stream',
                appends -> 0 ->> 'channel',
                (appends -> 0 ->> 'expected')::bigint,
                appends -> 0 -> 'events'
            ) AS one;
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM indelible.append_many(appends);
END
$$;
COMMENT ON FUNCTION indelible.append_if(jsonb, jsonb) IS
    'Appends as append_many() does, unless an event that matches one of the conditions [{items, after, seen}, …] stands after its position and is not among those seen: then one row, condition_failed, with the positions of such events. A marker of a log that was cut back is epoch_mismatch.';


-- Read for a decision -------------------------------------------------------------------------

CREATE FUNCTION indelible.read_matching(items jsonb)
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
    -- Before the statement that reads: what is settled then is there to be read.
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
                    AS given (types text[], tags text[], channel text, stream_prefix text)
                WHERE (given.types IS NULL OR recorded.type = ANY(given.types))
                    AND (given.tags IS NULL OR recorded.tags @> given.tags)
                    AND (given.channel IS NULL OR recorded.channel = given.channel)
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
                    AS given (types text[], tags text[], channel text, stream_prefix text)
                JOIN indelible.event_tags ON event_tags.tag = given.tags[1]
                JOIN indelible.recorded_events AS tagged ON tagged.position = event_tags.position
                WHERE tagged.tags @> given.tags
                    AND (given.types IS NULL OR tagged.type = ANY(given.types))
                    AND (given.channel IS NULL OR tagged.channel = given.channel)
                    AND (given.stream_prefix IS NULL OR starts_with(tagged.stream, given.stream_prefix))
            ) AS found
            JOIN indelible.recorded_events AS recorded ON recorded.position = found.position
            ORDER BY recorded.position;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.read_matching(jsonb) IS
    'First a row without a stream: the head, the id of the event there, and the epoch (as channel). Then every visible event that matches any of the items, settled or not, in order of position.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
