-- One row: true.
SELECT indelible.projection_worker_renew_lease(
    %(worker)s, %(lease)s::double precision,
    %(held_projections)s::bigint[], %(held_partitions)s::smallint[]
)
