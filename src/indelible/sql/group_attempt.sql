-- One row: whether the event may be handled; false where it is finished.
SELECT indelible.group_attempt(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(is_noted)s,
    %(attempt)s::int, %(due_moment)s, %(upto)s, %(upto_moment)s, %(upto_place)s
)
