-- A row a build of a projection that is not retired, the one that serves first.
SELECT id, state, lifecycle, fits
FROM indelible.projection_register(
    %(name)s, %(version)s::integer, %(kind)s, %(lifecycle)s, %(items)s::jsonb,
    %(partitions)s::smallint, %(indexes)s::text[]
)
