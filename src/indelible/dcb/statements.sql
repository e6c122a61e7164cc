-- name: read_matching
-- First a row without a stream: the head, the id of the event there, and the epoch as channel. Then a row
-- an event that matches any of the items, in order of position.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.read_matching(%(items)s::jsonb)
