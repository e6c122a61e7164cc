-- Rows as of an event. The first, without a position, tells of the stream and its snapshot; none for
-- a stream never written.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.load_valid(
    %(stream)s::text, %(state)s::text, %(shape)s::text,
    %(above_moment)s::timestamptz, %(above_position)s::bigint, %(moment)s::timestamptz,
    %(to_version)s::bigint, %(limit)s::bigint
)
