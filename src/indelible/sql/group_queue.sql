-- One row: whether the event is queued; false where none is left to wait for.
SELECT indelible.group_queue(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(upto)s,
    %(upto_moment)s, %(upto_place)s
)
