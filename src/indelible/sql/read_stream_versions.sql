-- A row an event of one stream, in the order in which their versions are given.
SELECT
    recorded.position, NULL AS stream, recorded.version, recorded.id, recorded.type, recorded.data,
    recorded.metadata, recorded.tags,
    (SELECT channel FROM indelible.recorded_streams WHERE stream = %(stream)s) AS channel,
    recorded.recorded_at, recorded.valid_at
FROM unnest(%(versions)s::bigint[]) WITH ORDINALITY AS wanted (version, place)
JOIN indelible.recorded_events AS recorded
    ON recorded.stream_id = (
        SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s
    )
    AND recorded.version = wanted.version
    AND (
        NOT recorded.is_archived
        OR (SELECT archived_at IS NOT NULL FROM indelible.recorded_streams WHERE stream = %(stream)s)
    )
ORDER BY wanted.place
