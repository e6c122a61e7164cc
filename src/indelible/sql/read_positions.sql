-- A row an event that stands at one of the positions, in order of position.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.recorded_events
WHERE position = ANY(%(positions)s::bigint[])
ORDER BY position
