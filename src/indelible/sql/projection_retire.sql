-- One row: how many builds of the version there were.
SELECT indelible.projection_retire(%(name)s, %(version)s::integer)
