-- One row: whether the batch was written just now.
SELECT indelible.projection_commit(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(after)s, %(upto)s, %(events)s,
    %(changed)s::jsonb, %(removed)s::text[]
)
