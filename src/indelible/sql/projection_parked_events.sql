-- A row an event that a projection leaves out, in order of position: it, its version, and why.
-- OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    projections.version, parked.position, recorded.stream, recorded.type, parked.partition,
    parked.error, parked.parked_at
FROM indelible.projections
JOIN indelible.projection_parked AS parked ON parked.projection_id = projections.id
CROSS JOIN LATERAL (
    SELECT stream, type
    FROM indelible.recorded_events
    WHERE recorded_events.position = parked.position
    OFFSET 0
) AS recorded
WHERE projections.name = %(name)s
    AND projections.state <> 'retired'
    AND parked.discarded_at IS NULL
ORDER BY parked.position, projections.version, parked.partition
