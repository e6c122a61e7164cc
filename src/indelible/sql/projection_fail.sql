-- One row, of nothing. Raises IND05 where others have taken over.
SELECT indelible.projection_fail(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(error)s, %(position)s::bigint,
    %(attempts)s::integer, %(wait)s::double precision, %(is_final)s
)
