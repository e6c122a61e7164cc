-- A row an event of the log, in order of valid time, then of position, the last first: between two
-- keys of valid time and position. First come those with a valid time of their own, by its index;
-- then those that hold from when they were recorded, by the positions that may be of that time.
WITH parts AS MATERIALIZED (
    SELECT position - 1000 AS after, position AS upto
    FROM indelible.periods
    WHERE position > %(after)s
        AND position - 1000 < %(upto)s
        AND latest >= coalesce(%(above_moment)s::timestamptz, '-infinity')
        AND earliest <= %(below_moment)s::timestamptz
    UNION ALL
    SELECT greatest(indelible.known_periods(), %(after)s), %(upto)s
)
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM (
    (
        SELECT
            position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
            given_valid_at AS valid_at
        FROM indelible.recorded_events AS recorded
        WHERE given_valid_at IS NOT NULL
            AND (given_valid_at, position)
                > (coalesce(%(above_moment)s::timestamptz, '-infinity'), %(above_position)s)
            AND (given_valid_at, position) < (%(below_moment)s::timestamptz, %(below_position)s)
            AND position > %(after)s
            AND position <= %(upto)s
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM jsonb_to_recordset(%(items)s::jsonb)
                        AS items (types text[], tags text[], channel text, stream_prefix text)
                    WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                        AND (items.tags IS NULL OR recorded.tags @> items.tags)
                        AND (items.channel IS NULL OR recorded.channel = items.channel)
                        AND (
                            items.stream_prefix IS NULL
                            OR starts_with(recorded.stream, items.stream_prefix)
                        )
                )
            )
        ORDER BY given_valid_at DESC, position DESC
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT
            recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
            recorded.data, recorded.metadata, recorded.tags, recorded.channel,
            recorded.recorded_at, recorded.recorded_at AS valid_at
        FROM parts
        CROSS JOIN LATERAL (
            SELECT
                position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
                given_valid_at
            FROM indelible.recorded_events
            WHERE position > parts.after
                AND position <= parts.upto
                AND position > %(after)s
                AND position <= %(upto)s
            OFFSET 0
        ) AS recorded
        WHERE recorded.given_valid_at IS NULL
            AND (recorded.recorded_at, recorded.position)
                > (coalesce(%(above_moment)s::timestamptz, '-infinity'), %(above_position)s)
            AND (recorded.recorded_at, recorded.position)
                < (%(below_moment)s::timestamptz, %(below_position)s)
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM jsonb_to_recordset(%(items)s::jsonb)
                        AS items (types text[], tags text[], channel text, stream_prefix text)
                    WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                        AND (items.tags IS NULL OR recorded.tags @> items.tags)
                        AND (items.channel IS NULL OR recorded.channel = items.channel)
                        AND (
                            items.stream_prefix IS NULL
                            OR starts_with(recorded.stream, items.stream_prefix)
                        )
                )
            )
        ORDER BY recorded.recorded_at DESC, recorded.position DESC
        LIMIT %(limit)s
    )
) AS merged
WHERE (SELECT indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
ORDER BY valid_at DESC, position DESC
LIMIT %(limit)s
