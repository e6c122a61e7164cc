-- One row, of nothing. Raises IND05 where others have taken over.
SELECT indelible.projection_park(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(error)s, %(position)s::bigint
)
