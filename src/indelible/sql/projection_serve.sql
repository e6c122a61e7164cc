-- One row: whether the build serves.
SELECT indelible.projection_serve(%(projection_id)s)
