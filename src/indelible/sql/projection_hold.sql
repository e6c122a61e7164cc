-- One row: the build of an inline projection that serves; no row where it is not built yet.
SELECT id
FROM indelible.projection_hold(%(name)s, %(version)s::integer)
