-- A row a slice that the worker has now: its number, where it stands, up to where it is suspect:
-- each a position and a key of what is due.
SELECT
    slice, after_position, (due).moment, (due).position, suspect, (suspect_due).moment,
    (suspect_due).position
FROM indelible.group_deal(
    %(group_id)s, %(token)s, %(round)s::int, %(slices)s::smallint[], %(positions)s::bigint[],
    %(moments)s::timestamptz[], %(places)s::bigint[],
    %(given_back)s::smallint[], %(wanted)s::int
)
