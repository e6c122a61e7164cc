-- A row an event that a projection leaves out, in order of position: it, its version, and why.
SELECT
    projections.version, parked.position, recorded.stream, recorded.type, parked.partition,
    parked.error, parked.parked_at
FROM indelible.projections
JOIN indelible.projection_parked AS parked ON parked.projection_id = projections.id
JOIN indelible.recorded_events AS recorded ON recorded.position = parked.position
WHERE projections.name = %(name)s
    AND projections.state <> 'retired'
    AND parked.discarded_at IS NULL
ORDER BY parked.position, projections.version, parked.partition
