-- A row an event of the log that matches any of the items, each of which names tags, the last position first.
-- OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type, recorded.data,
    recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at, recorded.valid_at
FROM (
    SELECT DISTINCT matching.position
    FROM jsonb_to_recordset(%(items)s::jsonb)
        AS items (types text[], tags text[], channel text, stream_prefix text)
    CROSS JOIN LATERAL (
        SELECT tagged.position
        FROM indelible.event_tags
        CROSS JOIN LATERAL (
            SELECT position, stream, type, tags, channel
            FROM indelible.recorded_events
            WHERE recorded_events.position = event_tags.position
            OFFSET 0
        ) AS tagged
        WHERE event_tags.tag = items.tags[1]
            AND event_tags.position > %(after)s
            AND event_tags.position <= %(upto)s
            AND tagged.tags @> items.tags
            AND (items.types IS NULL OR tagged.type = ANY(items.types))
            AND (items.channel IS NULL OR tagged.channel = items.channel)
            AND (items.stream_prefix IS NULL OR starts_with(tagged.stream, items.stream_prefix))
        ORDER BY event_tags.position DESC
        LIMIT %(limit)s
    ) AS matching
    ORDER BY matching.position DESC
    LIMIT %(limit)s
) AS found
CROSS JOIN LATERAL (
    SELECT position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE recorded_events.position = found.position
    OFFSET 0
) AS recorded
WHERE (SELECT indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
ORDER BY recorded.position DESC
