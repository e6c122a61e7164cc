-- name: busiest
-- One row per kind (stream, type, channel) and name, the busiest first: kind, name, number of events
-- in a range of positions.
WITH newest AS MATERIALIZED (
    SELECT stream, type, channel
    FROM indelible.recorded_events
    WHERE position > %(after)s AND position <= %(upto)s
),
counted AS (
    SELECT 'stream' AS kind, stream AS name, count(*) AS events FROM newest GROUP BY stream
    UNION ALL
    SELECT 'type', type, count(*) FROM newest GROUP BY type
    UNION ALL
    SELECT 'channel', channel, count(*) FROM newest GROUP BY channel
),
ranked AS (
    SELECT
        kind, name, events,
        row_number() OVER (PARTITION BY kind ORDER BY events DESC, name) AS place
    FROM counted
)
SELECT kind, name, events
FROM ranked
WHERE place <= %(most)s
ORDER BY kind, place

-- name: channels
-- One row per channel, in order of name: channel, number of streams, number of events.
SELECT channel, count(*), sum(version + 1)::bigint
FROM indelible.recorded_streams
GROUP BY channel
ORDER BY channel

-- name: event_types
-- One row per event type in a range of positions: how many events it has, the first and the last
-- position, and random positions (null if none are requested).
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

-- name: event_types_matching
-- One row per event type of the events in a range of positions that match any of the items: how
-- many there are, the first and the last position.
SELECT found.type, count(*), min(found.position), max(found.position)
FROM (
    SELECT position, stream_id, type, tags
    FROM indelible.recorded_events
    WHERE position > %(after)s
        AND position <= %(upto)s
) AS found
CROSS JOIN LATERAL (
    SELECT stream, channel
    FROM indelible.recorded_streams
    WHERE recorded_streams.stream_id = found.stream_id
    OFFSET 0
) AS streams
WHERE EXISTS (
    SELECT
    FROM indelible.matching_items(
        items => %(items)s::jsonb, type => found.type, tags => found.tags,
        channel => streams.channel, stream => streams.stream
    )
)
GROUP BY found.type
ORDER BY found.type

-- name: event_type_of_windows
-- One row: how many events of a type the windows of the log have, and up to where they are written.
SELECT
    (
        SELECT coalesce(sum(events), 0)::bigint
        FROM indelible.log_window_contents
        WHERE type = %(type)s
    ),
    (SELECT coalesce(max(position), 0) FROM indelible.log_windows)

-- name: event_types_of_windows
-- One row per event type in the windows of the log: how many events it has, the first and the last
-- position, and up to where windows are written.
SELECT
    type,
    sum(events)::bigint,
    min(first_position),
    max(last_position),
    (SELECT max(position) FROM indelible.log_windows)
FROM indelible.log_window_contents
GROUP BY type

-- name: positions_over
-- One row per moment, in the order given: its position, at or below a settled position.
SELECT (indelible.position_at(given.moment, %(head)s)).position
FROM unnest(%(moments)s::timestamptz[]) WITH ORDINALITY AS given (moment, ordinal)
ORDER BY given.ordinal

-- name: renew_epoch
-- One row: the epoch that begins now.
SELECT indelible.renew_epoch()

-- name: statistics
-- One row: the last assigned position, and the bytes on disk of tables and indexes.
SELECT last_position, bytes
FROM indelible.size()
