-- One row: the build that is beside the one that serves.
SELECT indelible.projection_rebuild(%(name)s, %(version)s::integer)
