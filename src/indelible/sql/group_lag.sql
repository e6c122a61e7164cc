-- One row: how many events that match, and are due, are not finished, and for how long the first of
-- them could have been. Where too many positions lie between to be looked through, they are counted
-- instead.
WITH behind AS MATERIALIZED (
    SELECT
        CASE
            WHEN %(due)s THEN greatest(recorded.recorded_at, recorded.valid_at)
            ELSE recorded.recorded_at
        END AS since
    FROM indelible.recorded_events AS recorded
    WHERE recorded.position > %(after)s
        AND recorded.position <= least(%(head)s, %(after)s + %(counted)s)
        AND (
            NOT %(due)s
            OR recorded.valid_at <= statement_timestamp()
            OR recorded.valid_at = recorded.recorded_at
        )
        AND (
            %(items)s::jsonb IS NULL
            OR EXISTS (
                SELECT
                FROM jsonb_to_recordset(%(items)s::jsonb)
                    AS items (types text[], tags text[], channel text, stream_prefix text)
                WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                    AND (items.tags IS NULL OR recorded.tags @> items.tags)
                    AND (items.channel IS NULL OR recorded.channel = items.channel)
                    AND (
                        items.stream_prefix IS NULL
                        OR starts_with(recorded.stream, items.stream_prefix)
                    )
            )
        )
    UNION ALL
    -- What is tried again, and what is queued behind that; not what is parked.
    SELECT recorded.recorded_at
    FROM indelible.group_firsts(%(group_id)s, %(hold_back)s) AS firsts
    JOIN indelible.group_events AS noted
        ON noted.group_id = %(group_id)s AND noted.key = firsts.key AND noted.state <> 'parked'
    CROSS JOIN LATERAL (
        SELECT recorded_at
        FROM indelible.recorded_events
        WHERE recorded_events.position = noted.position
        OFFSET 0
    ) AS recorded
    WHERE firsts.state <> 'parked' AND noted.position <= %(after)s
    UNION ALL
    SELECT overdue.since
    FROM indelible.group_overdue(%(group_id)s) AS overdue
    WHERE %(due)s
)
SELECT
    CASE WHEN %(head)s - %(after)s > %(counted)s THEN %(head)s - %(after)s ELSE count(*) END,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::double precision
FROM behind
