-- One row: whether the checkpoint was moved just now.
SELECT indelible.projection_advance(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(after)s, %(upto)s, %(events)s
)
