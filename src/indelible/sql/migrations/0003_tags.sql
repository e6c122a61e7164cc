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

CREATE FUNCTION indelible.tags_of(appends jsonb)
RETURNS text[]
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT jsonb_path_exists(appends, '$[*].events[*].tags[*]') THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT DISTINCT tag
        FROM jsonb_array_elements(appends) AS entries (item),
            jsonb_array_elements(item -> 'events') AS events (event),
            jsonb_array_elements_text(event -> 'tags') AS tags (tag)
    );
END
$$;
COMMENT ON FUNCTION indelible.tags_of(jsonb) IS 'The tags of all events of a list of appends.';

CREATE FUNCTION indelible.lock_for_append(
    shared_tags text[], exclusive_tags text[] DEFAULT '{}', closes_gate boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    store constant integer := indelible.lock_number();
    tag record;
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
    FOR tag IN
        SELECT indelible.tag_key(given.name) AS key, bool_or(given.is_exclusive) AS is_exclusive
        FROM (
            SELECT name, false AS is_exclusive FROM unnest(shared_tags) AS tags (name)
            UNION ALL
            SELECT name, true FROM unnest(exclusive_tags) AS tags (name)
        ) AS given
        GROUP BY key
        ORDER BY key
    LOOP
        IF tag.is_exclusive THEN
            PERFORM pg_advisory_xact_lock(store, tag.key);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(store, tag.key);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.lock_for_append(text[], text[], boolean) IS
    'Takes, until the transaction ends, what an append with these tags and conditions must hold.';


-- Append, as before but for tags and locks ------------------------------------------------------

CREATE OR REPLACE FUNCTION indelible.insert_events(
    stream_id bigint,
    first_version bigint,
    new_events jsonb,
    OUT last_position bigint,
    OUT recorded_at timestamptz
)
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM indelible.hold_head();
    recorded_at := clock_timestamp();
    INSERT INTO indelible.events
        (position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at)
    SELECT
        nextval('indelible.events_position'),
        insert_events.stream_id,
        first_version + place - 1,
        insert_events.recorded_at,
        (event ->> 'id')::uuid,
        event ->> 'type',
        event -> 'data',
        event -> 'metadata',
        CASE WHEN event ? 'tags'
            THEN ARRAY(SELECT jsonb_array_elements_text(event -> 'tags'))
        END,
        (event ->> 'valid_at')::timestamptz
    FROM jsonb_array_elements(new_events) WITH ORDINALITY AS given (event, place)
    ORDER BY place;
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
-- a table was small would read it whole for long after it has grown: they are held to indexes.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    added constant bigint := jsonb_array_length(new_events);
    found_id bigint;
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
            indelible.tags_of(jsonb_build_array(jsonb_build_object('events', new_events)))
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
                AND (expected_version < 0 OR streams.version = expected_version)
                AND (stream_channel IS NULL OR streams.channel = stream_channel)
            RETURNING streams.id, streams.version INTO found_id, last_version;
            -- The ids are asked for after the row lock, so that a retry sees the original that it
            -- raced with, and before positions are taken, so that a refusal burns none.
            IF found_id IS NOT NULL AND indelible.has_any(new_events) THEN
                UPDATE indelible.streams
                SET version = streams.version - added
                WHERE streams.id = found_id;
                found_id := NULL;
            END IF;
        END IF;
        IF found_id IS NULL AND expected_version IN (-1, -2)
            AND NOT indelible.has_any(new_events)
        THEN
            INSERT INTO indelible.streams (name, channel, version)
            VALUES (
                stream_name, coalesce(stream_channel, split_part(stream_name, '-', 1)), added - 1
            )
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

    SELECT inserted.last_position, inserted.recorded_at INTO last_position, recorded_at
    FROM indelible.insert_events(found_id, last_version - added + 1, new_events) AS inserted;
    outcome := 'appended';
END
$$;

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
-- Plans are made once a session, and for every function that is called from here. One made while
-- a table was small would read it whole for long after it has grown: they are held to indexes.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
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
    -- The version of each stream as the list goes on: a stream may stand in it more than once.
    versions jsonb := '{}';
BEGIN
    -- Before the rows of streams: locks are taken in one order by all.
    PERFORM indelible.lock_for_append(indelible.tags_of(appends));
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
            ON CONFLICT ON CONSTRAINT streams_name_key DO NOTHING;
            EXIT WHEN FOUND;
        END LOOP;
    END LOOP;

    SELECT * INTO recalled FROM indelible.recall(appends);

    FOR item, place IN
        SELECT given, number
        FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (given, number)
    LOOP
        expected := item -> 'expected';
        added := jsonb_array_length(item -> 'events');
        IF expected IS NULL OR expected < -1 AND expected NOT IN (-2, -4) THEN
            RAISE EXCEPTION 'expected version % is not known', expected
            USING ERRCODE = 'IND04',
                HINT = 'Pass a version, -1 (no stream), -2 (any) or -4 (stream exists).';
        END IF;
        SELECT streams.id, streams.name, streams.version, streams.channel INTO stream
        FROM indelible.streams
        WHERE streams.name = item ->> 'stream';
        outcome := 'checked';
        last_version := coalesce((versions -> stream.name)::bigint, stream.version);
        last_position := NULL;
        recorded_at := clock_timestamp();
        facts := NULL;
        IF stream.channel <> item ->> 'channel' THEN
            outcome := 'channel_mismatch';
            facts := jsonb_build_object('channel', stream.channel);
        ELSIF recalled.is_retry THEN
            -- recall has seen that the versions fit; a check without events held at that time.
            IF added > 0 THEN
                outcome := 'idempotent';
                last_version := recalled.results -> place::text -> 'version';
                last_position := recalled.results -> place::text -> 'position';
                recorded_at := recalled.results -> place::text ->> 'recorded_at';
            END IF;
        ELSIF recalled.known > 0 THEN
            outcome := 'duplicate';
            facts := recalled.duplicates;
        ELSIF expected >= -1 AND last_version <> expected
            OR expected = -4 AND last_version = -1
        THEN
            outcome := 'wrong_version';
            facts := indelible.last_event(stream.id, stream.version);
        ELSE
            versions := versions || jsonb_build_object(stream.name, last_version + added);
        END IF;
        refused := refused OR outcome IN ('channel_mismatch', 'duplicate', 'wrong_version');
        IF outcome <> 'checked' OR recalled.is_retry THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    -- Only now is anything written, so that a refusal burns no position.
    IF NOT refused AND NOT recalled.is_retry THEN
        FOR item, place IN
            SELECT given, number
            FROM jsonb_array_elements(appends) WITH ORDINALITY AS entries (given, number)
        LOOP
            outcome := 'checked';
            last_position := NULL;
            recorded_at := clock_timestamp();
            facts := NULL;
            added := jsonb_array_length(item -> 'events');
            UPDATE indelible.streams
            SET version = streams.version + added
            WHERE streams.name = item ->> 'stream'
            RETURNING streams.id, streams.version INTO stream;
            last_version := stream.version;
            IF added > 0 THEN
                outcome := 'appended';
                SELECT written.last_position, written.recorded_at INTO last_position, recorded_at
                FROM indelible.insert_events(
                    stream.id, last_version - added + 1, item -> 'events'
                ) AS written;
            END IF;
            RETURN NEXT;
        END LOOP;
    END IF;
    DELETE FROM indelible.streams
    WHERE streams.version = -1
        AND streams.name IN (
            SELECT given ->> 'stream' FROM jsonb_array_elements(appends) AS entries (given)
        );
END
$$;


-- Conditions ----------------------------------------------------------------------------------

CREATE FUNCTION indelible.events_in_the_way(items jsonb, after bigint, seen bigint[])
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
        SELECT given.types, given.tags, given.channel, given.stream_prefix
        FROM jsonb_to_recordset(items)
            AS given (types text[], tags text[], channel text, stream_prefix text)
    LOOP
        IF item.tags IS NULL THEN
            found := ARRAY(
                SELECT events.position
                FROM indelible.events
                LEFT JOIN indelible.streams ON streams.id = events.stream_id
                WHERE events.position > events_in_the_way.after
                    AND NOT events.position = ANY(seen)
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
                JOIN indelible.events ON events.position = event_tags.position
                LEFT JOIN indelible.streams ON streams.id = events.stream_id
                WHERE event_tags.tag = item.tags[1]
                    AND event_tags.position > events_in_the_way.after
                    AND NOT event_tags.position = ANY(seen)
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
    RETURN in_the_way;
END
$$;
COMMENT ON FUNCTION indelible.events_in_the_way(jsonb, bigint, bigint[]) IS
    'The first events after a position, but for those seen, that match any of the items (null: every event).';

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
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    condition record;
    in_the_way bigint[] := '{}';
    recalled record;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'a condition cannot be checked in a % transaction: its snapshot may be older than what it waited for',
            current_setting('transaction_isolation')
        USING ERRCODE = 'IND02', HINT = 'Append with a condition in a READ COMMITTED transaction.';
    END IF;
    -- Any event that matches an item carries all its tags: one of them is enough to lock.
    PERFORM indelible.lock_for_append(
        indelible.tags_of(appends),
        ARRAY(
            SELECT DISTINCT item -> 'tags' ->> 0
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
    -- In later statements, which see all that was committed before the locks were had.
    FOR condition IN
        SELECT
            given -> 'items' AS items,
            (given ->> 'after')::bigint AS after,
            ARRAY(SELECT jsonb_array_elements_text(given -> 'seen')::bigint) AS seen
        FROM jsonb_array_elements(conditions) AS conditions (given)
    LOOP
        in_the_way := in_the_way || indelible.events_in_the_way(
            condition.items, condition.after, condition.seen
        );
    END LOOP;
    IF in_the_way <> '{}' THEN
        -- A retry of what was appended before fails on its own events; it is a success again.
        SELECT * INTO recalled FROM indelible.recall(appends);
        IF recalled.known = 0 THEN
            place := 0;
            outcome := 'condition_failed';
            facts := to_jsonb(ARRAY(
                SELECT DISTINCT position FROM unnest(in_the_way) AS found (position)
                ORDER BY position
                LIMIT 10
            ));
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
    'Appends as append_many() does, unless an event that matches one of the conditions [{items, after, seen}, …] stands after its position and is not among those seen: then one row, condition_failed, with the positions of such events.';


-- Read for a decision -------------------------------------------------------------------------

CREATE FUNCTION indelible.read_matching(items jsonb)
RETURNS TABLE (
    head bigint,
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
    settled constant bigint := indelible.head();
BEGIN
    IF EXISTS (SELECT FROM jsonb_array_elements(items) AS given (item) WHERE item -> 'tags' ->> 0 IS NULL)
    THEN
        RETURN QUERY
            SELECT
                settled, recorded.position, recorded.stream, recorded.version, recorded.id,
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
                settled, recorded.position, recorded.stream, recorded.version, recorded.id,
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
    IF NOT FOUND THEN
        head := settled;
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.read_matching(jsonb) IS
    'Every visible event that matches any of the items, settled or not, in order of position, each with the head before it; a row with nothing else where there is none.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
