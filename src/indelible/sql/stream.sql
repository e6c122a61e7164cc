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
WHERE streams.stream = %(stream)s
