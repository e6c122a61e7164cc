-- One row: whether the event is queued, or finished; false where none is left to wait for.
SELECT indelible.group_queue(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(due_moment)s,
    %(upto)s, %(upto_moment)s, %(upto_place)s
)
