-- One row without meaning: the event is finished when the transaction commits.
SELECT indelible.group_finish(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(is_noted)s, %(upto)s,
    %(upto_moment)s, %(upto_place)s
)
