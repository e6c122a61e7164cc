-- A row an event whose valid time has come, in order of valid time, then of position. Those whose
-- valid time is their recorded time are left out: they were due when they came.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
    given_valid_at AS valid_at
FROM indelible.recorded_events AS recorded
WHERE (SELECT indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
    AND given_valid_at IS NOT NULL
    AND given_valid_at <> recorded_at
    AND (given_valid_at, position) > (%(above_moment)s::timestamptz, %(above_position)s)
    AND given_valid_at <= %(until)s::timestamptz
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
ORDER BY given_valid_at, position
LIMIT %(limit)s
