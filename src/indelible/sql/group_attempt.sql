-- One row: which attempt it is.
SELECT indelible.group_attempt(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(upto)s,
    %(upto_moment)s, %(upto_place)s
)
