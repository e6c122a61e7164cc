-- One row: the moment after which so many periods were recorded; null where fewer were.
SELECT (
    SELECT moment
    FROM indelible.periods
    WHERE moment > coalesce(%(above)s::timestamptz, '-infinity')
        AND moment < %(below)s::timestamptz
        AND position <= %(upto)s
    ORDER BY moment DESC, position DESC
    OFFSET %(periods)s
    LIMIT 1
)
