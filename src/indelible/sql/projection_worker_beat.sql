-- One row, of nothing.
SELECT indelible.projection_worker_beat(
    %(worker)s, %(projections)s::bigint[], %(lease)s::double precision,
    %(held_projections)s::bigint[], %(held_partitions)s::smallint[]
)
