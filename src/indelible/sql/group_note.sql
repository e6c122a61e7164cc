-- One row: whether the event is noted; false where it is finished after all, or erased.
SELECT indelible.group_note(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(is_noted)s,
    %(state)s, %(attempts)s::int, %(delay)s, %(reason)s, %(error)s,
    %(due_moment)s, %(upto)s, %(upto_moment)s, %(upto_place)s
)
