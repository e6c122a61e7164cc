-- name: load
-- Rows as of an event. The first, without a position, tells of the stream and its snapshot; none for
-- a stream never written.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.load(
    %(stream)s::text, %(state)s::text, %(shape)s::text,
    %(after_version)s::bigint, %(to_version)s::bigint, %(command_event)s::uuid, %(limit)s::bigint
)

-- name: load_by_valid_time
-- Rows as of an event. The first, without a position, tells of the stream and its snapshot; none for
-- a stream never written.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.load_by_valid_time(
    %(stream)s::text, %(state)s::text, %(shape)s::text,
    %(above_moment)s::timestamptz, %(above_position)s::bigint, %(moment)s::timestamptz,
    %(to_version)s::bigint, %(limit)s::bigint
)

-- name: save_snapshot
-- One row: whether it was kept.
SELECT indelible.save_snapshot(
    %(stream)s::text, %(state)s::text, %(shape)s::text, %(version)s::bigint,
    %(valid_at)s::timestamptz, %(erased_at)s::timestamptz, %(data)s::jsonb
)
