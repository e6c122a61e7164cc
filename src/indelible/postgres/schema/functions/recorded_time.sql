-- Which position corresponds to a time (docs/explanation/bitemporal.md).

CREATE OR REPLACE FUNCTION indelible.indexed_up_to()
RETURNS bigint
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(max(position), 0) FROM indelible.recorded_time_index
$$;
COMMENT ON FUNCTION indelible.indexed_up_to() IS 'The last position that a row of recorded_time_index covers.';

CREATE OR REPLACE FUNCTION indelible.index_recorded_times(max_rows bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    head constant bigint := indelible.head();
    indexed bigint := indelible.indexed_up_to();
    upto bigint;
BEGIN
    IF head - indexed < 1000 THEN
        RETURN false;
    END IF;
    -- One transaction at a time; the others do not wait, because readers can do without the index.
    -- No position uses bit 47 of the key. (Not ShareLock, which is what head() looks for.)
    IF current_setting('transaction_read_only') = 'on'
        OR NOT pg_try_advisory_xact_lock(indelible.store_lock_key() << 48 | 1::bigint << 47)
    THEN
        RETURN false;
    END IF;
    indexed := indelible.indexed_up_to();
    upto := least(head, indexed + max_rows) / 1000 * 1000;
    BEGIN
        INSERT INTO indelible.recorded_time_index (position, earliest, latest, latest_so_far)
        SELECT
            periods.number * 1000,
            ranges.earliest,
            ranges.latest,
            greatest(
                (
                    SELECT previous.latest_so_far
                    FROM indelible.recorded_time_index AS previous
                    WHERE previous.position = indexed
                ),
                coalesce(max(ranges.latest) OVER (ORDER BY periods.number), '-infinity')
            )
        FROM generate_series(indexed / 1000 + 1, upto / 1000) AS periods (number)
        LEFT JOIN (
            SELECT
                (events.position + 999) / 1000 AS number,
                min(events.recorded_at) AS earliest,
                max(events.recorded_at) AS latest
            FROM indelible.all_events AS events
            WHERE events.position > indexed AND events.position <= upto
            GROUP BY 1
        ) AS ranges USING (number);
    EXCEPTION WHEN insufficient_resources THEN
        -- If the disk is full, readers can do without the index.
        RETURN false;
    END;
    RETURN head - upto >= 1000;
END
$$;
COMMENT ON FUNCTION indelible.index_recorded_times(bigint) IS
    'Adds settled positions to recorded_time_index, up to max_rows at once; true if there are more.';

CREATE OR REPLACE FUNCTION indelible.position_at(
    recorded_time timestamptz, head bigint, OUT "position" bigint, OUT is_final boolean
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    low bigint;
    high bigint;
    later bigint;
BEGIN
    SELECT position - 1000, position INTO low, high
    FROM indelible.recorded_time_index
    WHERE latest_so_far > position_at.recorded_time
    ORDER BY latest_so_far, position
    LIMIT 1;
    IF high IS NULL OR high > head THEN
        low := least(coalesce(low, indelible.indexed_up_to()), head);
        high := head;
    END IF;
    SELECT events.position INTO later
    FROM indelible.all_events AS events
    WHERE events.position > low
        AND events.position <= high
        AND events.recorded_at > position_at.recorded_time
    ORDER BY events.position
    LIMIT 1;
    position := coalesce(later - 1, head);
    is_final := later IS NOT NULL;
END
$$;
COMMENT ON FUNCTION indelible.position_at(timestamptz, bigint) IS
    'The position that corresponds to a time: before the first event recorded later. If there is no such event it is the head, and not final.';

CREATE OR REPLACE FUNCTION indelible.version_at(stream_name text, "position" bigint)
RETURNS bigint
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    target_id bigint;
    low bigint := -1;
    high bigint;
    middle bigint;
    has_archived boolean;
BEGIN
    SELECT streams.id, streams.version, streams.archived_at IS NOT NULL
    INTO target_id, high, has_archived
    FROM indelible.streams
    WHERE streams.name = stream_name;
    -- Positions grow with versions: the last version at or below the position lies in low..high.
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF EXISTS (
            SELECT FROM indelible.all_events AS events
            WHERE events.stream_id = target_id AND events.version = middle
                AND events.position <= version_at.position
                AND (has_archived OR NOT events.is_archived)
        ) THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;
COMMENT ON FUNCTION indelible.version_at(text, bigint) IS
    'The version of a stream at a position; -1 if it had none.';
