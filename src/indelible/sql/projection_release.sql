-- One row, of nothing.
SELECT indelible.projection_release(%(projection_id)s, %(partition)s::smallint, %(token)s)
