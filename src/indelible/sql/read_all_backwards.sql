-- A row an event of the log, the last position first.
(
    SELECT
        position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_unarchived
    WHERE position > %(after)s
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
-- Asked once, before the first row. As a condition of a part it would keep the planner from remembering
-- streams that it has looked up.
OFFSET (
    SELECT CASE
        WHEN indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)
