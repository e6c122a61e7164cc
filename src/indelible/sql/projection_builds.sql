-- A row a partition of each build of a projection that is not retired, in order.
SELECT
    projections.id, projections.name, projections.version, projections.kind,
    projections.lifecycle, projections.state, projections.query::text,
    parts.partition, parts.position, parts.owner, nullif(parts.expires_at, '-infinity'),
    parts.handled, parts.is_stopped, parts.error, parts.error_position
FROM indelible.projections
JOIN indelible.projection_partitions AS parts ON parts.projection_id = projections.id
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)
ORDER BY projections.name, projections.version, projections.id, parts.partition
