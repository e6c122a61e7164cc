-- A row an event that falls to a worker, in order of position: the event, its key and its slice.
-- The token is in the condition: who has lost its lease reads nothing.
SELECT
    recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
    recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
    recorded.valid_at, keys.key, slices.slice
FROM indelible.recorded_events AS recorded
CROSS JOIN LATERAL (
    SELECT indelible.partition_key(
        %(partition_by)s, recorded.stream, recorded.tags, recorded.metadata
    ) AS key
) AS keys
JOIN indelible.group_slices AS slices
    ON slices.group_id = %(group_id)s
    AND slices.slice = indelible.slice_of(keys.key)
    AND slices.token = %(token)s
WHERE recorded.position > %(after)s
    AND recorded.position <= %(upto)s
    AND recorded.position > slices.position
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
ORDER BY recorded.position
LIMIT %(limit)s
