-- Snapshots: states of domain objects at a version. The functions also load the events after it.
-- docs/explanation/aggregates.md explains why the loaded state is the same with and without
-- snapshots.

CREATE OR REPLACE FUNCTION indelible.has_backdated_event(
    stream_id bigint, after_version bigint, to_version bigint, upto timestamptz
)
RETURNS boolean
LANGUAGE sql
STABLE
AS $$
    SELECT EXISTS (
        SELECT
        FROM indelible.all_events
        WHERE stream_id = has_backdated_event.stream_id
            AND version > after_version
            AND version <= to_version
            AND coalesce(valid_at, recorded_at) <= upto
    )
$$;
COMMENT ON FUNCTION indelible.has_backdated_event(bigint, bigint, bigint, timestamptz) IS
    'Whether a backdated event invalidates a snapshot by valid time: it was recorded after a version, and is valid from a time or earlier.';

CREATE OR REPLACE FUNCTION indelible.load(
    stream_name text,
    state text,
    fingerprint text,
    after_version bigint,
    to_version bigint,
    event_id uuid,
    max_rows bigint
)
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
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- As in append().
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    target record;
    above bigint := after_version;
BEGIN
    SELECT streams.id, streams.channel, streams.version, streams.archived_at, streams.erased_at
    INTO target
    FROM indelible.streams
    WHERE streams.name = stream_name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT snapshots.version, snapshots.data INTO version, data
    FROM indelible.snapshots
    WHERE snapshots.stream_id = target.id
        AND snapshots.state = load.state
        AND NOT snapshots.by_valid_time
        AND snapshots.fingerprint = load.fingerprint
        AND snapshots.version <= to_version;
    above := greatest(after_version, version);
    metadata := jsonb_build_object(
        'version', target.version,
        'handled_at', (
            SELECT events.version
            FROM indelible.all_events AS events
            WHERE events.id = event_id
                AND events.stream_id = target.id
                AND (target.archived_at IS NOT NULL OR NOT events.is_archived)
        )
    );
    channel := target.channel;
    recorded_at := target.erased_at;
    RETURN NEXT;
    RETURN QUERY
    SELECT
        events.position, NULL::text, events.version, events.id, events.type::text,
        CASE WHEN events.erasure IS NULL THEN events.data END,
        events.metadata, events.tags, target.channel::text, events.recorded_at,
        coalesce(events.valid_at, events.recorded_at)
    FROM indelible.all_events AS events
    WHERE events.stream_id = target.id
        AND events.version > above
        AND events.version <= to_version
        AND (target.archived_at IS NOT NULL OR NOT events.is_archived)
    ORDER BY events.version
    LIMIT max_rows;
END
$$;
COMMENT ON FUNCTION indelible.load(text, text, text, bigint, bigint, uuid, bigint) IS
    'No row for a stream that was never written. Otherwise a first row without a position, which describes the stream, and one row per event, in order of version. First row: version and data are those of the snapshot to continue from, null without one; metadata has the stream''s version, and the version of the event with the given id; recorded_at is when the stream was erased.';

CREATE OR REPLACE FUNCTION indelible.load_by_valid_time(
    stream_name text,
    state text,
    fingerprint text,
    above_valid_at timestamptz,
    above_position bigint,
    to_valid_at timestamptz,
    to_version bigint,
    max_rows bigint
)
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
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- As in append().
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    target record;
    lowest bigint;
    above timestamptz;
BEGIN
    SELECT streams.id, streams.channel, streams.version, streams.archived_at, streams.erased_at
    INTO target
    FROM indelible.streams
    WHERE streams.name = stream_name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT snapshots.version, snapshots.data, snapshots.valid_at, snapshots.from_version
    INTO version, data, valid_at, lowest
    FROM indelible.snapshots
    WHERE snapshots.stream_id = target.id
        AND snapshots.state = load_by_valid_time.state
        AND snapshots.by_valid_time
        AND snapshots.fingerprint = load_by_valid_time.fingerprint
        AND snapshots.version <= to_version
        AND snapshots.valid_at <= to_valid_at
        AND NOT indelible.has_backdated_event(
            snapshots.stream_id, snapshots.version, to_version, snapshots.valid_at
        );
    above := coalesce(above_valid_at, valid_at, '-infinity');
    metadata := jsonb_build_object('version', target.version, 'handled_at', NULL);
    channel := target.channel;
    recorded_at := target.erased_at;
    RETURN NEXT;
    RETURN QUERY
    SELECT
        events.position, NULL::text, events.version, events.id, events.type::text,
        CASE WHEN events.erasure IS NULL THEN events.data END,
        events.metadata, events.tags, target.channel::text, events.recorded_at,
        coalesce(events.valid_at, events.recorded_at)
    FROM indelible.all_events AS events
    WHERE events.stream_id = target.id
        AND events.version >= coalesce(lowest, 0)
        AND events.version <= to_version
        AND (target.archived_at IS NOT NULL OR NOT events.is_archived)
        AND (coalesce(events.valid_at, events.recorded_at), events.position)
            > (above, above_position)
        AND coalesce(events.valid_at, events.recorded_at) <= to_valid_at
    ORDER BY coalesce(events.valid_at, events.recorded_at), events.position
    LIMIT max_rows;
END
$$;
COMMENT ON FUNCTION indelible.load_by_valid_time(text, text, text, timestamptz, bigint, timestamptz, bigint, bigint) IS
    'The same for the events that are valid at a moment, after a key of valid time and position, in that order. The first row has the valid_at of the snapshot.';

CREATE OR REPLACE FUNCTION indelible.save_snapshot(
    stream_name text,
    state text,
    fingerprint text,
    version bigint,
    valid_at timestamptz,
    erased_at timestamptz,
    state_data jsonb
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A snapshot is only an optimization, so it must not wait long.
SET lock_timeout = '100ms'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    target_id bigint;
BEGIN
    -- Data that was erased after the read must not be stored again. This lock blocks erasures, but
    -- not appends.
    SELECT streams.id INTO target_id
    FROM indelible.streams
    WHERE streams.name = stream_name
        AND streams.version >= save_snapshot.version
        AND streams.erased_at IS NOT DISTINCT FROM save_snapshot.erased_at
    FOR KEY SHARE;
    IF target_id IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO indelible.snapshots AS stored
        (stream_id, version, by_valid_time, valid_at, from_version, state, fingerprint, data)
    VALUES (
        target_id,
        version,
        valid_at IS NOT NULL,
        valid_at,
        CASE WHEN save_snapshot.valid_at IS NOT NULL THEN coalesce(
            (
                SELECT min(events.version)
                FROM indelible.all_events AS events
                WHERE events.stream_id = target_id
                    AND events.version <= save_snapshot.version
                    AND coalesce(events.valid_at, events.recorded_at) > save_snapshot.valid_at
            ),
            version + 1
        ) END,
        state,
        fingerprint,
        state_data
    )
    ON CONFLICT ON CONSTRAINT snapshots_pkey DO UPDATE
    SET version = excluded.version,
        valid_at = excluded.valid_at,
        from_version = excluded.from_version,
        taken_at = excluded.taken_at,
        fingerprint = excluded.fingerprint,
        data = excluded.data
    WHERE stored.fingerprint <> excluded.fingerprint
        OR CASE
            WHEN stored.valid_at IS NULL THEN stored.version < excluded.version
            ELSE stored.valid_at < excluded.valid_at
                OR indelible.has_backdated_event(
                    target_id, stored.version, excluded.version, stored.valid_at
                )
        END;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION indelible.save_snapshot(text, text, text, bigint, timestamptz, timestamptz, jsonb) IS
    'Stores a state, unless a later one is stored, or events were erased after the read. Returns whether it was stored.';
