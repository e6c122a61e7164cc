-- One row, or none for a stream never written: stream, channel, version, position of the last
-- event, the times of the first and the last, and when it was closed, archived and erased.
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
FROM indelible.recorded_streams AS streams
JOIN indelible.recorded_events AS first
    ON first.stream_id = streams.stream_id AND first.version = 0
JOIN indelible.recorded_events AS last
    ON last.stream_id = streams.stream_id AND last.version = streams.version
WHERE streams.stream = %(stream)s
