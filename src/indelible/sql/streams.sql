-- A row a stream, in order of name: stream, channel, version, position of the last event, the
-- times of the first and the last, and when it was closed, archived and erased.
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
JOIN indelible.recorded_events AS first
    ON first.stream_id = streams.stream_id AND first.version = 0
JOIN indelible.recorded_events AS last
    ON last.stream_id = streams.stream_id AND last.version = streams.version
ORDER BY streams.stream
