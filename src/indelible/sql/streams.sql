-- A row a stream, in order of name: stream, channel, version, position of the last event, the
-- times of the first and the last, and when it was closed, archived and erased.
-- OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    streams.stream,
    streams.channel,
    streams.version,
    last.position,
    first.recorded_at AS created_at,
    last.recorded_at,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM (
    SELECT stream_id, stream, channel, version, closed_at, archived_at, erased_at
    FROM indelible.recorded_streams
    WHERE stream > %(after)s
        AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
        AND (%(prefix)s::text IS NULL OR starts_with(stream, %(prefix)s::text))
        -- Names are in byte order: all that start with the prefix stand together, after it.
        AND (%(prefix)s::text IS NULL OR stream >= %(prefix)s::text)
    ORDER BY stream
    LIMIT %(limit)s
) AS streams
CROSS JOIN LATERAL (
    SELECT recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = 0
    OFFSET 0
) AS first
CROSS JOIN LATERAL (
    SELECT position, recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = streams.version
    OFFSET 0
) AS last
ORDER BY streams.stream
