-- A row an event of some streams between two versions each, in order of position.
SELECT
    recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type, recorded.data,
    recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at, recorded.valid_at
FROM jsonb_to_recordset(%(spans)s::jsonb)
    AS spans (stream text, from_version bigint, to_version bigint)
JOIN indelible.recorded_streams AS streams ON streams.stream = spans.stream
JOIN indelible.recorded_events AS recorded ON recorded.stream_id = streams.stream_id
    AND recorded.version BETWEEN spans.from_version AND spans.to_version
ORDER BY recorded.position
