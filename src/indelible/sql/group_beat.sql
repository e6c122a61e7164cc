-- One row: how many slices are the worker's share, and how many belong to nobody.
SELECT share, unowned
FROM indelible.group_beat(
    %(group_id)s, %(token)s, %(round)s::int, %(checkpoint)s, %(checkpoint_moment)s,
    %(checkpoint_place)s, %(delivered)s, %(delivered_moment)s, %(delivered_place)s,
    %(slices)s::smallint[], %(positions)s::bigint[], %(moments)s::timestamptz[],
    %(places)s::bigint[]
)
