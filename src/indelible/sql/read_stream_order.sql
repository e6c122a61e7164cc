-- One row: the versions of the events of one stream in order of valid time, then of position, between
-- two keys of valid time and position; null where there is none.
SELECT array_agg(version ORDER BY valid_at, position)
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
