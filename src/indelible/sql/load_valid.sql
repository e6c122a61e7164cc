-- Nothing for a stream never written; else a row without a position that tells of the stream, and a
-- row an event that holds at a moment, in order of valid time, then of position. The first: version,
-- data and valid_at of the snapshot to go on from, null where there is none; metadata: the stream's
-- version; recorded_at: when it was erased.
WITH known AS MATERIALIZED (
    SELECT
        streams.stream_id,
        streams.channel,
        streams.version AS last_version,
        streams.erased_at,
        snapshots.version,
        snapshots.valid_at,
        snapshots.from_version,
        snapshots.data
    FROM indelible.recorded_streams AS streams
    LEFT JOIN indelible.snapshots
        ON snapshots.stream_id = streams.stream_id
        AND snapshots.state = %(state)s
        AND snapshots.by_valid_time
        AND snapshots.shape = %(shape)s
        AND snapshots.version <= %(to_version)s
        AND snapshots.valid_at <= %(moment)s::timestamptz
        AND NOT indelible.has_late_fact(
            snapshots.stream_id, snapshots.version, %(to_version)s, snapshots.valid_at
        )
    WHERE streams.stream = %(stream)s
)
SELECT
    NULL::bigint AS position,
    NULL AS stream,
    known.version,
    NULL::uuid AS id,
    NULL AS type,
    known.data,
    jsonb_build_object('version', known.last_version, 'handled_at', NULL) AS metadata,
    NULL::text[] AS tags,
    known.channel,
    known.erased_at AS recorded_at,
    known.valid_at
FROM known
UNION ALL
(
    SELECT
        position, NULL, version, id, type, data, metadata, tags,
        (SELECT channel FROM known), recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE stream_id = (SELECT stream_id FROM known)
        AND version >= coalesce((SELECT from_version FROM known), 0)
        AND version <= %(to_version)s
        AND (valid_at, position) > (
            coalesce(%(above_moment)s::timestamptz, (SELECT valid_at FROM known), '-infinity'),
            %(above_position)s
        )
        AND valid_at <= %(moment)s::timestamptz
    ORDER BY valid_at, position
    LIMIT %(limit)s
)
