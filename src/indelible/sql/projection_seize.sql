-- A row a partition of a build that is to serve: its number, its token, its checkpoint.
SELECT partition, token, position
FROM indelible.projection_seize(%(projection_id)s)
ORDER BY partition
