-- One row: the checkpoint. Raises IND05 where others have taken over.
SELECT indelible.projection_beat(%(projection_id)s, %(partition)s::smallint, %(token)s)
