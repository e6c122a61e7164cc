-- Rows as of an event. The first, without a position, tells of the stream and its snapshot; none for
-- a stream never written.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.load(
    %(stream)s::text, %(state)s::text, %(shape)s::text,
    %(after_version)s::bigint, %(to_version)s::bigint, %(command_event)s::uuid, %(limit)s::bigint
)
