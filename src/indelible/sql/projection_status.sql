-- A row a build that is not retired: its query, events per second, and how many events it leaves out.
SELECT
    projections.id,
    projections.query::text,
    (
        SELECT coalesce(sum(parts.events_per_second), 0)
        FROM indelible.projection_partitions AS parts
        WHERE parts.projection_id = projections.id AND parts.expires_at > clock_timestamp()
    ),
    (
        SELECT count(DISTINCT parked.position)
        FROM indelible.projection_parked AS parked
        WHERE parked.projection_id = projections.id
    )
FROM indelible.projections
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)
