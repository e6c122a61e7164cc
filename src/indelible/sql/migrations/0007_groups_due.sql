-- Groups that have each event when its valid time comes: what is due and not finished, and where a
-- group is done. docs/explanation/consumer-groups.md tells what a checkpoint is for such a group.

CREATE FUNCTION indelible.group_places(of_group bigint)
RETURNS TABLE (slice smallint, "position" bigint, due indelible.due_key)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        slices.slice,
        greatest(slices.position, workers.checkpoint),
        greatest(slices.due, workers.checkpoint_due)
    FROM indelible.group_slices AS slices
    LEFT JOIN indelible.group_workers AS workers USING (group_id, token)
    WHERE slices.group_id = of_group
$$;
COMMENT ON FUNCTION indelible.group_places(bigint) IS
    'Up to where each slice of a group is finished, but for what has a row in group_events.';

CREATE FUNCTION indelible.group_overdue(of_group bigint)
RETURNS TABLE ("position" bigint, since timestamptz)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lowest timestamptz;
BEGIN
    SELECT min((places.due).moment) INTO lowest FROM indelible.group_places(of_group) AS places;
    RETURN QUERY
        SELECT recorded.position, recorded.given_valid_at
        FROM indelible.groups
        CROSS JOIN indelible.recorded_events AS recorded
        JOIN indelible.group_places(of_group) AS places
            ON places.slice = indelible.slice_of(
                indelible.partition_key(
                    groups.partition_by, recorded.stream, recorded.tags, recorded.metadata
                )
            )
        WHERE groups.id = of_group
            AND groups.due
            AND recorded.given_valid_at >= lowest
            AND recorded.given_valid_at <= statement_timestamp()
            AND recorded.given_valid_at <> recorded.recorded_at
            AND recorded.data IS NOT NULL
            AND recorded.position <= places.position
            AND indelible.due_key_at(recorded.given_valid_at, recorded.position) > places.due
            AND NOT EXISTS (
                SELECT FROM indelible.group_events AS noted
                WHERE noted.group_id = of_group AND noted.position = recorded.position
            )
            AND (
                groups.query IS NULL
                OR EXISTS (
                    SELECT
                    FROM jsonb_to_recordset(groups.query)
                        AS items (types text[], tags text[], channel text, stream_prefix text)
                    WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                        AND (items.tags IS NULL OR recorded.tags @> items.tags)
                        AND (items.channel IS NULL OR recorded.channel = items.channel)
                        AND (
                            items.stream_prefix IS NULL
                            OR starts_with(recorded.stream, items.stream_prefix)
                        )
                )
            );
END
$$;
COMMENT ON FUNCTION indelible.group_overdue(bigint) IS
    'The events that a group that waits for valid times passed when they were yet to come, and which have become due and are not finished; since when they are due.';

CREATE FUNCTION indelible.group_checkpoint(of_group bigint)
RETURNS bigint
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(
        (SELECT min(places.position) FROM indelible.group_places(of_group) AS places),
        (
            -- Not what is parked, nor what waits behind it: that is set aside. The first of a key
            -- need not be the lowest where they are handed out by valid time.
            SELECT min(noted.position) - 1
            FROM indelible.groups
            CROSS JOIN LATERAL indelible.group_firsts(groups.id, groups.hold_back) AS firsts
            CROSS JOIN LATERAL (
                SELECT waiting.position
                FROM indelible.group_events AS waiting
                WHERE waiting.group_id = of_group AND waiting.key = firsts.key
                    AND waiting.state <> 'parked'
                ORDER BY waiting.position
                LIMIT 1
            ) AS noted
            WHERE groups.id = of_group AND firsts.state <> 'parked'
        ),
        (
            SELECT min(overdue.position) - 1
            FROM indelible.groups
            CROSS JOIN LATERAL indelible.group_overdue(groups.id) AS overdue
            WHERE groups.id = of_group AND groups.due
        )
    )
$$;
COMMENT ON FUNCTION indelible.group_checkpoint(bigint) IS
    'Below the lowest position that is due and not finished, counting what is in flight, retried or replayed; parked events are set aside.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
