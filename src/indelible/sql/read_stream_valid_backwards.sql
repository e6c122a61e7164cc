-- A row an event of one stream, in order of valid time, then of position, the last first: between
-- two keys of valid time and position.
SELECT
    position, NULL AS stream, version, id, type, data, metadata, tags,
    (SELECT channel FROM indelible.recorded_streams WHERE stream = %(stream)s) AS channel,
    recorded_at, valid_at
FROM indelible.recorded_events
WHERE stream_id = (
        SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s
    )
    AND version BETWEEN %(from_version)s AND %(to_version)s
    AND (
        NOT is_archived
        OR (SELECT archived_at IS NOT NULL FROM indelible.recorded_streams WHERE stream = %(stream)s)
    )
    AND (valid_at, position)
        > (coalesce(%(above_moment)s::timestamptz, '-infinity'), %(above_position)s)
    AND (valid_at, position) < (%(below_moment)s::timestamptz, %(below_position)s)
ORDER BY valid_at DESC, position DESC
LIMIT %(limit)s
