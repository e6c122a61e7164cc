-- A row a slice that the worker has now: its number, where it stands, up to where it is suspect.
SELECT slice, after_position, suspect
FROM indelible.group_deal(
    %(group_id)s, %(token)s, %(round)s::int, %(slices)s::smallint[], %(positions)s::bigint[],
    %(given_back)s::smallint[], %(wanted)s::int
)
