-- A row a build that is not retired: its query, events per second, how many processes work on it, and how many events it leaves out.
SELECT
    projections.id,
    projections.query::text,
    alive.events_per_second,
    alive.workers,
    (
        SELECT count(DISTINCT parked.position)
        FROM indelible.projection_parked AS parked
        WHERE parked.projection_id = projections.id AND parked.discarded_at IS NULL
    )
FROM indelible.projections
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(parts.events_per_second), 0) AS events_per_second,
        count(DISTINCT parts.owner) AS workers
    FROM indelible.projection_partitions AS parts
    WHERE parts.projection_id = projections.id AND parts.expires_at > clock_timestamp()
) AS alive
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)
