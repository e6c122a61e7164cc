-- Nothing for a stream never written; else a row without a position that tells of the stream
-- (metadata: its version, and where the event with the id asked for stands), and a row an event that
-- holds at a moment, in order of valid time, then of position.
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
    jsonb_build_object('version', known.version, 'handled_at', NULL) AS metadata,
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
        AND version <= least(%(to_version)s, (SELECT version FROM known))
        AND valid_at <= %(moment)s::timestamptz
    ORDER BY valid_at, position
    LIMIT %(limit)s
)
