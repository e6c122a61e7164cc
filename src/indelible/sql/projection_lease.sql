-- One row: the token, the checkpoint and its epoch; no row where somebody else holds the partition.
SELECT token, position, epoch
FROM indelible.projection_lease(
    %(projection_id)s, %(partition)s::smallint, %(owner)s, %(lease)s::double precision
)
