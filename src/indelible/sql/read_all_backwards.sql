-- A row an event of the log, the last position first.
(
    SELECT
        position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_unarchived
    WHERE (SELECT indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
        AND position > %(after)s
        AND position <= %(upto)s
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
    ORDER BY position DESC
    LIMIT %(limit)s
)
ORDER BY position DESC
LIMIT %(limit)s
