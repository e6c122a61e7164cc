-- One row: the moment up to which so many periods more are recorded; null where fewer are.
SELECT (
    SELECT moment
    FROM indelible.periods
    WHERE moment > coalesce(%(above)s::timestamptz, '-infinity')
        AND moment < %(below)s::timestamptz
        AND position <= %(upto)s
    ORDER BY moment, position
    OFFSET %(periods)s
    LIMIT 1
)
