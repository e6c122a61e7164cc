-- A row an event of one stream, the last version first.
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
ORDER BY version DESC
LIMIT %(limit)s
