-- A row an event of the log, the last position first.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.recorded_events
WHERE (SELECT indelible.may_read(%(epoch)s::uuid))
    AND position > %(after)s
    AND position <= %(upto)s
ORDER BY position DESC
LIMIT %(limit)s
