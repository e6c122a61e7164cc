-- A row an event of those with some ids, in order of position.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.recorded_events
WHERE id = ANY(%(ids)s::uuid[])
ORDER BY position
