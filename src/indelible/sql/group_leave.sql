-- One row without meaning: the worker has left.
SELECT indelible.group_leave(
    %(group_id)s, %(token)s, %(slices)s::smallint[], %(positions)s::bigint[],
    %(moments)s::timestamptz[], %(places)s::bigint[]
)
