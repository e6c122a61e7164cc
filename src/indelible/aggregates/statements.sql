-- name: first_types
-- One row per type of the first 100 events of a stream.
SELECT DISTINCT type
FROM indelible.recorded_events
WHERE stream_id = (SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s)
    AND version < 100

-- name: load
-- Rows as of an event. The first, without a position, tells of the stream and its snapshot; none for
-- a stream never written.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.load(
    stream_name => %(stream)s::text,
    state => %(state)s::text,
    fingerprint => %(fingerprint)s::text,
    after_version => %(after_version)s::bigint,
    to_version => %(to_version)s::bigint,
    event_id => %(command_event)s::uuid,
    max_rows => %(limit)s::bigint
)

-- name: load_by_valid_time
-- Rows as of an event. The first, without a position, tells of the stream and its snapshot; none for
-- a stream never written.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.load_by_valid_time(
    stream_name => %(stream)s::text,
    state => %(state)s::text,
    fingerprint => %(fingerprint)s::text,
    above_valid_at => %(above_valid_at)s::timestamptz,
    above_position => %(above_position)s::bigint,
    to_valid_at => %(moment)s::timestamptz,
    to_version => %(to_version)s::bigint,
    max_rows => %(limit)s::bigint
)

-- name: save_snapshot
-- One row: whether it was kept.
SELECT indelible.save_snapshot(
    stream_name => %(stream)s::text,
    state => %(state)s::text,
    fingerprint => %(fingerprint)s::text,
    version => %(version)s::bigint,
    valid_at => %(valid_at)s::timestamptz,
    erased_at => %(erased_at)s::timestamptz,
    state_data => %(data)s::jsonb
)
