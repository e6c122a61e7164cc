-- name: channels
-- A row a channel, in order of name: channel, its streams, its events.
SELECT channel, count(*), sum(version + 1)::bigint
FROM indelible.recorded_streams
GROUP BY channel
ORDER BY channel

-- name: event_types
-- A row a type of the events in a range of positions: how many they are, the first and the last
-- position, and positions taken at random (null where none are wanted).
SELECT
    type,
    count(*),
    min(position),
    max(position),
    (array_agg(position ORDER BY random()) FILTER (WHERE %(samples)s > 0))[1:%(samples)s]
FROM indelible.recorded_events
WHERE position > %(after)s
    AND position <= %(upto)s
GROUP BY type

-- name: renew_epoch
-- One row: the epoch that begins now.
SELECT indelible.renew_epoch()

-- name: statistics
-- One row: the last position handed out, and the bytes on disk of tables and indexes.
SELECT last_position, bytes
FROM indelible.size()
