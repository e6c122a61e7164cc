-- A row a parked event of a group, in order of position.
-- OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    noted.position,
    recorded.stream,
    recorded.version,
    recorded.type,
    noted.key,
    noted.attempts,
    noted.reason,
    noted.error,
    noted.updated_at,
    (
        SELECT count(*)
        FROM indelible.group_events AS later
        WHERE later.group_id = noted.group_id AND later.key = noted.key
            AND later.number > noted.number AND later.state = 'queued'
    )
FROM indelible.groups
JOIN indelible.group_events AS noted ON noted.group_id = groups.id
CROSS JOIN LATERAL (
    SELECT stream, version, type
    FROM indelible.recorded_events
    WHERE recorded_events.position = noted.position
    OFFSET 0
) AS recorded
WHERE groups.name = %(group)s
    AND noted.state = 'parked'
    AND (%(key)s::text IS NULL OR noted.key = %(key)s::text)
ORDER BY noted.position
LIMIT %(limit)s
