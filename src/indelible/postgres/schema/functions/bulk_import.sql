-- Bulk import (docs/explanation/bulk-import.md).

CREATE OR REPLACE FUNCTION indelible.find_imported_events(
    stream_names text[],
    stream_numbers integer[],
    new_versions bigint[],
    new_ids uuid[],
    new_types text[],
    new_data jsonb[],
    new_metadata jsonb[],
    new_tags jsonb[],
    new_valid_at timestamptz[],
    new_recorded_at timestamptz[],
    after_position bigint,
    OUT existing_count bigint,
    OUT last_position bigint,
    OUT duplicates jsonb
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    -- A variable: PL/pgSQL expands the array once, and not at each access.
    names text[] := stream_names;
BEGIN
    WITH given AS (
        SELECT *
        FROM unnest(
            stream_numbers, new_versions, new_ids, new_types, new_data, new_metadata, new_tags,
            new_valid_at, new_recorded_at
        ) WITH ORDINALITY AS entries (
            number, version, id, type, data, metadata, tags, valid_at, recorded_at, ordinal
        )
    ),
    matched AS (
        SELECT
            given.ordinal,
            given.id,
            stored.position,
            stored.version,
            streams.name AS stream,
            -- If one event is missing, later ones do not count: an earlier run has stored the
            -- beginning of the input, in its order.
            bool_and(stored.position IS NOT NULL) OVER so_far
                AND stored.position > coalesce(lag(stored.position) OVER so_far, after_position)
                AND streams.name = names[given.number]
                AND stored.version = coalesce(given.version, stored.version)
                AS same_position,
            stored.type = given.type
                AND stored.data = given.data
                AND coalesce(stored.metadata, '{}') = coalesce(given.metadata, '{}')
                AND coalesce(to_jsonb(stored.tags), '[]') = coalesce(given.tags, '[]')
                AND coalesce(stored.valid_at, stored.recorded_at)
                    = coalesce(given.valid_at, stored.recorded_at)
                AND stored.recorded_at = coalesce(given.recorded_at, stored.recorded_at)
                AS same_content
        FROM given
        LEFT JOIN indelible.all_events AS stored ON stored.id = given.id
        LEFT JOIN indelible.streams ON streams.id = stored.stream_id
        WINDOW so_far AS (ORDER BY given.ordinal)
    )
    SELECT
        count(position) FILTER (WHERE same_position AND same_content),
        max(position) FILTER (WHERE same_position AND same_content),
        jsonb_agg(
            jsonb_build_object(
                'ordinal', ordinal,
                'id', id,
                'stream', stream,
                'version', version,
                'same_content', same_content
            )
            ORDER BY ordinal
        ) FILTER (WHERE position IS NOT NULL AND NOT (same_position AND same_content))
    INTO existing_count, last_position, duplicates
    FROM matched;
    IF existing_count > 0 THEN
        PERFORM indelible.wait_at_commit();
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.find_imported_events IS
    'How many events at the beginning of a list are stored already, unchanged; and those that are stored differently.';

CREATE OR REPLACE FUNCTION indelible.reserve_import(
    stream_names text[],
    stream_channels text[],
    stream_counts bigint[],
    stream_versions bigint[],
    event_ids uuid[],
    tags text[],
    tag_events integer[],
    latest timestamptz,
    life_cycles jsonb,
    OUT outcome text,
    OUT details jsonb,
    OUT recorded_at timestamptz,
    OUT stream_ids bigint[],
    OUT last_versions bigint[],
    OUT first_position bigint,
    OUT positions bigint[]
)
LANGUAGE plpgsql
-- As in append().
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    actual_channels text[];
    closed timestamptz[];
BEGIN
    IF EXISTS (
        SELECT
        FROM unnest(stream_names, stream_names[2:]) AS given (name, next_name)
        WHERE given.name >= given.next_name COLLATE "C"
    ) THEN
        RAISE EXCEPTION 'the names of streams must be sorted and unique'
        USING ERRCODE = 'IND04', HINT = 'Sort them by their bytes, and pass each name once.';
    END IF;
    IF latest > clock_timestamp() THEN
        outcome := 'in_future';
        RETURN;
    END IF;
    -- An earlier run has stored the beginning of the input: then no row needs to be locked.
    IF EXISTS (SELECT FROM indelible.all_events WHERE id = event_ids[1]) THEN
        outcome := 'known';
        RETURN;
    END IF;

    -- Before the rows of streams: all functions take locks in the same order.
    IF life_cycles @? '$[*].archived_at' THEN
        UPDATE indelible.archive_lock SET is_only = is_only;
    END IF;
    PERFORM indelible.lock_for_append(
        ARRAY(SELECT DISTINCT tag FROM unnest(coalesce(tags, '{}')) AS given (tag))
    );
    -- The rows of the streams are locked in order of name, as append_many() locks them, and updated
    -- in the same step. The caller rolls back if the events are rejected.
    WITH moved AS (
        INSERT INTO indelible.streams AS stream (name, channel, version)
        SELECT
            given.name,
            coalesce(given.channel, split_part(given.name, '-', 1)),
            given.added - 1
        FROM unnest(stream_names, stream_channels, stream_counts) AS given (name, channel, added)
        ORDER BY given.name COLLATE "C"
        ON CONFLICT ON CONSTRAINT streams_name_key
        DO UPDATE SET version = stream.version + excluded.version + 1
        RETURNING stream.id, stream.version, stream.channel, stream.name, stream.closed_at
    ),
    ordered AS (
        SELECT
            moved.id, moved.version, moved.channel, moved.closed_at,
            row_number() OVER (ORDER BY moved.name)
        FROM moved
    )
    SELECT
        array_agg(ordered.id ORDER BY ordered.row_number),
        array_agg(
            ordered.version - stream_counts[ordered.row_number] ORDER BY ordered.row_number
        ),
        array_agg(ordered.channel ORDER BY ordered.row_number),
        array_agg(ordered.closed_at ORDER BY ordered.row_number)
    INTO stream_ids, last_versions, actual_channels, closed
    FROM ordered;

    -- Ids are looked up after the rows are locked, so that two runs of one import see each other.
    -- The unique key finds other duplicates, and complete_import() those in the archive.
    IF EXISTS (SELECT FROM indelible.all_events WHERE id = ANY(event_ids)) THEN
        outcome := 'known';
        RETURN;
    END IF;

    SELECT
        CASE
            WHEN given.channel <> given.actual_channel THEN 'channel_mismatch'
            WHEN given.closed_at IS NOT NULL THEN 'closed'
            ELSE 'wrong_version'
        END,
        jsonb_build_object(
            'ordinal', given.number,
            'channel', given.actual_channel,
            'version', given.last_version,
            'closed_at', given.closed_at
        ) || coalesce(indelible.last_event(given.stream_id, given.last_version), '{}')
    INTO outcome, details
    FROM unnest(
            stream_channels, actual_channels, stream_versions, last_versions, stream_ids, closed
        ) WITH ORDINALITY AS given (
            channel, actual_channel, version, last_version, stream_id, closed_at, number
        )
    WHERE given.channel <> given.actual_channel
        OR given.version <> given.last_version
        OR given.closed_at IS NOT NULL
    ORDER BY given.number
    LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;

    IF life_cycles IS NOT NULL THEN
        PERFORM indelible.import_stream_changes(stream_ids, life_cycles);
    END IF;
    PERFORM indelible.lock_head();
    recorded_at := clock_timestamp();
    SELECT array_agg(nextval('indelible.events_position')) INTO positions
    FROM generate_series(1, (SELECT sum(given.added) FROM unnest(stream_counts) AS given (added)));
    IF tags <> '{}' THEN
        INSERT INTO indelible.event_tags (tag, position)
        SELECT DISTINCT given.tag, positions[given.ordinal]
        FROM unnest(tags, tag_events) AS given (tag, ordinal);
    END IF;
    first_position := positions[1];
    -- Usually no other transaction took a position in between, so the first one determines the
    -- others.
    IF positions[cardinality(positions)] - first_position = cardinality(positions) - 1 THEN
        positions := NULL;
    END IF;
    outcome := 'ready';
END
$$;
COMMENT ON FUNCTION indelible.reserve_import IS
    'Reserves versions and positions for events that the same transaction then copies into the table. It increases the versions of their streams by the counts, and checks expected versions if given. Returns the streams'' ids and their versions before, in order of the streams, and a position for each event; only the first position if they follow each other. Outcome: ready; or known, wrong_version, channel_mismatch or in_future: then the transaction must be rolled back. For the owner, who may write the table.';

CREATE OR REPLACE FUNCTION indelible.import_stream_changes(stream_ids bigint[], life_cycles jsonb)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO indelible.stream_changes (
        stream_id, operation, events, changed_by, changed_at, reason
    )
    SELECT
        stream_ids[life.ordinal], change.operation, change.events, change.changed_by,
        change.changed_at, change.reason
    FROM ROWS FROM (
        jsonb_to_recordset(life_cycles) AS (ordinal integer, changes jsonb)
    ) WITH ORDINALITY AS life (ordinal, changes, number)
    CROSS JOIN LATERAL ROWS FROM (
        jsonb_to_recordset(life.changes) AS (
            operation text, events bigint, changed_by text, changed_at timestamptz, reason text
        )
    ) WITH ORDINALITY AS change (operation, events, changed_by, changed_at, reason, number)
    -- Changes that an earlier import has stored already.
    WHERE NOT EXISTS (
        SELECT FROM indelible.stream_changes AS stored
        WHERE stored.stream_id = stream_ids[life.ordinal] AND stored.changed_at >= change.changed_at
    )
    ORDER BY life.number, change.number;
    UPDATE indelible.streams
    SET closed_at = life.closed_at,
        archived_at = coalesce(life.archived_at, streams.archived_at),
        erased_at = coalesce(
            life.erased_at, streams.erased_at, CASE WHEN life.is_erased THEN clock_timestamp() END
        )
    FROM jsonb_to_recordset(life_cycles) AS life (
        ordinal integer,
        is_erased boolean,
        closed_at timestamptz,
        archived_at timestamptz,
        erased_at timestamptz
    )
    WHERE streams.id = stream_ids[life.ordinal]
$$;
COMMENT ON FUNCTION indelible.import_stream_changes(bigint[], jsonb) IS
    'Records the life cycle of imported streams in their original store: who closed, archived or erased them, when and why.';

CREATE OR REPLACE FUNCTION indelible.complete_import(
    first_position bigint, last_position bigint, archived bigint[]
)
RETURNS void
LANGUAGE plpgsql
-- As in append().
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    IF pg_sequence_last_value('indelible.archive_count') IS NOT NULL THEN
        PERFORM indelible.check_archived_ids(ARRAY(
            SELECT events.id
            FROM indelible.events
            WHERE events.position BETWEEN first_position AND last_position
        ));
    END IF;
    IF archived <> '{}' THEN
        DELETE FROM indelible.events
        WHERE events.stream_id = ANY(archived)
            AND indelible.is_recorded_change(events.stream_id, 'archive');
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.complete_import(bigint, bigint, bigint[]) IS
    'Raises 40001 if an event that was copied between these positions has the id of an archived one; moves the events of some streams into the archive. Called before the import commits.';
