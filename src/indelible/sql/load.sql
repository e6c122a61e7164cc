-- Nothing for a stream never written; else a row without a position that tells of the stream, and a
-- row an event, in order of version. The first: version and data of the snapshot to go on from, null
-- where there is none; metadata: the stream's version, and where the event with the id asked for
-- stands; recorded_at: when it was erased.
WITH known AS MATERIALIZED (
    SELECT
        streams.stream_id,
        streams.channel,
        streams.version AS last_version,
        streams.erased_at,
        snapshots.version,
        snapshots.data
    FROM indelible.recorded_streams AS streams
    LEFT JOIN indelible.snapshots
        ON snapshots.stream_id = streams.stream_id
        AND snapshots.state = %(state)s
        AND NOT snapshots.by_valid_time
        AND snapshots.shape = %(shape)s
        AND snapshots.version <= %(to_version)s
    WHERE streams.stream = %(stream)s
)
SELECT
    NULL::bigint AS position,
    NULL AS stream,
    known.version,
    NULL::uuid AS id,
    NULL AS type,
    known.data,
    jsonb_build_object(
        'version', known.last_version,
        'handled_at', (
            SELECT events.version
            FROM indelible.recorded_events AS events
            WHERE events.id = %(command_event)s::uuid AND events.stream_id = known.stream_id
        )
    ) AS metadata,
    NULL::text[] AS tags,
    known.channel,
    known.erased_at AS recorded_at,
    NULL::timestamptz AS valid_at
FROM known
UNION ALL
(
    SELECT
        position, NULL, version, id, type, data, metadata, tags,
        (SELECT channel FROM known), recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE stream_id = (SELECT stream_id FROM known)
        AND version > greatest(%(after_version)s, (SELECT version FROM known))
        AND version <= %(to_version)s
    ORDER BY version
    LIMIT %(limit)s
)
