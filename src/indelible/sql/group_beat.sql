-- One row: how many slices are the worker's share, and how many belong to nobody.
SELECT share, unowned
FROM indelible.group_beat(
    %(group_id)s, %(token)s, %(round)s::int, %(checkpoint)s, %(delivered)s,
    %(slices)s::smallint[], %(positions)s::bigint[]
)
