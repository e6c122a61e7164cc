-- One row: true where the event is finished when the transaction commits, false where it was before.
SELECT indelible.group_finish(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(is_noted)s, %(due_moment)s,
    %(upto)s, %(upto_moment)s, %(upto_place)s
)
