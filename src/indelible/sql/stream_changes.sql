-- A row a change of a stream's life, in order.
SELECT
    changes.operation, changes.events, changes.changed_by, changes.changed_at, changes.reason
FROM indelible.stream_changes AS changes
JOIN indelible.recorded_streams AS streams USING (stream_id)
WHERE streams.stream = %(stream)s
ORDER BY changes.number
