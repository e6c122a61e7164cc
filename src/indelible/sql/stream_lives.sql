-- A row a stream of these names that was closed, reopened, archived or erased: stream, version, life.
SELECT
    streams.stream,
    streams.version,
    jsonb_build_object(
        'closed_at', streams.closed_at,
        'archived_at', streams.archived_at,
        'erased_at', streams.erased_at,
        'changes', (
            SELECT
                jsonb_agg(
                    jsonb_build_object(
                        'operation', changes.operation,
                        'events', changes.events,
                        'changed_by', changes.changed_by,
                        'changed_at', changes.changed_at,
                        'reason', changes.reason
                    )
                    ORDER BY changes.number
                )
            FROM indelible.stream_changes AS changes
            WHERE changes.stream_id = streams.stream_id
        )
    ) AS life
FROM indelible.recorded_streams AS streams
WHERE streams.stream = ANY(%(streams)s::text[])
    AND (SELECT true FROM indelible.stream_changes LIMIT 1)
    AND EXISTS (
        SELECT FROM indelible.stream_changes AS changes
        WHERE changes.stream_id = streams.stream_id
    )
