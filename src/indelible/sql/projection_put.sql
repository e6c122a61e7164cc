-- One row, of nothing.
SELECT indelible.projection_put(%(projection_id)s, %(changed)s::jsonb, %(removed)s::text[])
