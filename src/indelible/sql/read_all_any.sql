-- A row an event of the log that matches any of the items, in order of position.
WITH items AS MATERIALIZED (
    SELECT types, tags, channel, stream_prefix
    FROM jsonb_to_recordset(%(items)s::jsonb)
        AS items (types text[], tags text[], channel text, stream_prefix text)
)
(
    SELECT
        position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_unarchived AS recorded
    WHERE position > %(after)s
        AND position <= %(upto)s
        AND EXISTS (
            SELECT
            FROM items
            WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                AND (items.tags IS NULL OR recorded.tags @> items.tags)
                AND (items.channel IS NULL OR recorded.channel = items.channel)
                AND (items.stream_prefix IS NULL OR starts_with(recorded.stream, items.stream_prefix))
        )
    ORDER BY position
    LIMIT %(limit)s
)
UNION ALL
(
    SELECT
        position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_archived AS recorded
    WHERE position > %(after)s
        AND position <= %(upto)s
        AND EXISTS (
            SELECT
            FROM items
            WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                AND (items.tags IS NULL OR recorded.tags @> items.tags)
                AND (items.channel IS NULL OR recorded.channel = items.channel)
                AND (items.stream_prefix IS NULL OR starts_with(recorded.stream, items.stream_prefix))
        )
    ORDER BY position
    LIMIT %(limit)s
)
ORDER BY position
LIMIT %(limit)s
-- Asked once, before the first row. As a condition of a part it would keep the planner from remembering
-- streams that it has looked up.
OFFSET (
    SELECT CASE
        WHEN indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)
