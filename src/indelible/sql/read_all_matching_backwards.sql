-- A row an event of the log that matches all that is given, the last position first.
(
    SELECT
        position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_unarchived
    WHERE position > %(after)s
        AND position <= %(upto)s
        AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s::text[]))
        AND (%(tags)s::text[] IS NULL OR tags @> %(tags)s::text[])
        AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
        AND (%(stream_prefix)s::text IS NULL OR starts_with(stream, %(stream_prefix)s::text))
    ORDER BY position DESC
    LIMIT %(limit)s
)
UNION ALL
(
    SELECT
        position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_archived
    WHERE position > %(after)s
        AND position <= %(upto)s
        AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s::text[]))
        AND (%(tags)s::text[] IS NULL OR tags @> %(tags)s::text[])
        AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
        AND (%(stream_prefix)s::text IS NULL OR starts_with(stream, %(stream_prefix)s::text))
    ORDER BY position DESC
    LIMIT %(limit)s
)
ORDER BY position DESC
LIMIT %(limit)s
-- Asked once, before the first row. As a condition of a part it would keep the planner from remembering
-- streams that it has looked up.
OFFSET (
    SELECT CASE
        WHEN indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)
