-- Windows of the log: which types and channels they have (docs/explanation/log-windows.md).

CREATE OR REPLACE FUNCTION indelible.write_log_windows(max_positions bigint)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    head bigint;
    written bigint := (SELECT coalesce(max(position), 0) FROM indelible.log_windows);
    upto bigint;
BEGIN
    -- A snapshot reads what its caller knows to be settled, and the head is not known in it.
    IF current_setting('transaction_read_only') = 'on'
        OR current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
    THEN
        RETURN written;
    END IF;
    head := indelible.head();
    -- One transaction at a time; the others do not wait, because readers can do without windows. No
    -- position uses bit 47 of the key. (Not ShareLock, which is what head() looks for.)
    IF head - written < 10000
        OR NOT pg_try_advisory_xact_lock(
            indelible.store_lock_key() << 48 | 1::bigint << 47 | 1::bigint
        )
    THEN
        RETURN written;
    END IF;
    written := (SELECT coalesce(max(position), 0) FROM indelible.log_windows);
    upto := least(head, written + max_positions);
    BEGIN
        WHILE written + 10000 <= upto LOOP
            -- One window at a time is counted in memory.
            WITH found AS MATERIALIZED (
                SELECT position, stream_id, recorded_at, type::text
                FROM indelible.all_events
                WHERE position > written AND position <= written + 10000
            ),
            kinds AS (
                SELECT
                    found.type,
                    coalesce(streams.channel, '') AS channel,
                    count(*) AS events,
                    min(found.position) AS first_position,
                    max(found.position) AS last_position,
                    count(*) OVER () AS kinds
                FROM found
                LEFT JOIN (
                    -- OFFSET 0 makes the planner look up each stream once, by index.
                    SELECT id, channel::text
                    FROM indelible.streams
                    WHERE id = ANY(ARRAY(SELECT stream_id FROM found))
                    OFFSET 0
                ) AS streams ON streams.id = found.stream_id
                GROUP BY 1, 2
            ),
            inserted AS (
                -- If each stream has its own channel, the rows would take as much space as the events.
                INSERT INTO indelible.log_window_contents (
                    type, position, channel, events, first_position, last_position
                )
                SELECT
                    type,
                    written + 10000,
                    CASE WHEN kinds <= 1000 THEN channel ELSE '' END,
                    sum(events),
                    min(first_position),
                    max(last_position)
                FROM kinds
                GROUP BY 1, 2, 3
            )
            INSERT INTO indelible.log_windows (position, events, earliest, latest)
            SELECT written + 10000, count(*), min(recorded_at), max(recorded_at)
            FROM found;
            written := written + 10000;
        END LOOP;
    EXCEPTION WHEN insufficient_resources THEN
        -- If the disk is full, readers can do without windows.
        RETURN (SELECT coalesce(max(position), 0) FROM indelible.log_windows);
    END;
    RETURN written;
END
$$;
COMMENT ON FUNCTION indelible.write_log_windows(bigint) IS
    'Adds settled positions to log_windows, up to max_positions at once. Returns the last position that a window covers.';

-- STABLE: one snapshot for both tables, so that no window below written_up_to is missing.
CREATE OR REPLACE FUNCTION indelible.matching_windows(
    items jsonb, after bigint, upto bigint, OUT written_up_to bigint, OUT positions bigint[]
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
    SELECT
        (SELECT coalesce(max(position), 0) FROM indelible.log_windows),
        coalesce(array_agg(DISTINCT contents.position), '{}')
    FROM jsonb_to_recordset(items) AS items (types text[], channel text)
    CROSS JOIN LATERAL (
        SELECT of_type.position
        FROM unnest(items.types) AS types (type)
        CROSS JOIN LATERAL (
            -- OFFSET 0 makes the planner look up each type by index.
            SELECT position
            FROM indelible.log_window_contents
            WHERE type = types.type
                AND position > matching_windows.after
                AND position < matching_windows.upto + 10000
                AND (items.channel IS NULL OR channel IN (items.channel, ''))
            OFFSET 0
        ) AS of_type
        UNION ALL
        SELECT position
        FROM indelible.log_window_contents
        WHERE items.types IS NULL
            AND channel IN (items.channel, '')
            AND position > matching_windows.after
            AND position < matching_windows.upto + 10000
    ) AS contents
$$;
COMMENT ON FUNCTION indelible.matching_windows(jsonb, bigint, bigint) IS
    'The windows between two positions that may have events that match any of the items of a query: their last positions, in order. Each item names types or a channel. written_up_to is the last position that a window covers.';
