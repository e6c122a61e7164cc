-- A row a partition of each build, retired ones too: which, whose it is, and how far.
SELECT
    projections.id, projections.name, projections.version, projections.lifecycle,
    projections.state, projections.live_after, parts.partition, parts.position,
    CASE WHEN parts.expires_at > clock_timestamp() THEN parts.owner END,
    parts.is_stopped
FROM indelible.projections
JOIN indelible.projection_partitions AS parts ON parts.projection_id = projections.id
ORDER BY projections.id, parts.partition
