-- Nothing for a stream never written; else a row without a position that tells of the stream
-- (metadata: its version, and where the event with the id asked for stands), and a row an event, in
-- order of version.
WITH known AS MATERIALIZED (
    SELECT stream_id, channel, version
    FROM indelible.recorded_streams
    WHERE stream = %(stream)s
)
SELECT
    NULL::bigint AS position,
    NULL AS stream,
    NULL::bigint AS version,
    NULL::uuid AS id,
    NULL AS type,
    NULL::jsonb AS data,
    jsonb_build_object(
        'version', known.version,
        'handled_at', (
            SELECT events.version
            FROM indelible.recorded_events AS events
            WHERE events.id = %(command_event)s::uuid AND events.stream_id = known.stream_id
        )
    ) AS metadata,
    NULL::text[] AS tags,
    known.channel,
    NULL::timestamptz AS recorded_at,
    NULL::timestamptz AS valid_at
FROM known
UNION ALL
(
    SELECT
        position, NULL, version, id, type, data, metadata, tags,
        (SELECT channel FROM known), recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE stream_id = (SELECT stream_id FROM known)
        AND version <= %(to_version)s
    ORDER BY version
    LIMIT %(limit)s
)
