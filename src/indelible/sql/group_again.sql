-- A row for the first noted event of each key of a worker's that does not wait for an operator:
-- the event, its key and slice, its state and attempts, and in how many seconds it may be tried. Nulls
-- for an event that is no longer in the log. OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    first.position, recorded.stream, recorded.version, recorded.id, recorded.type,
    recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
    recorded.valid_at, first.key, first.slice, first.state, first.attempts,
    extract(epoch FROM first.not_before - clock_timestamp())::double precision
FROM indelible.group_firsts(%(group_id)s, %(hold_back)s) AS first
LEFT JOIN LATERAL (
    SELECT stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE recorded_events.position = first.position
    OFFSET 0
) AS recorded ON true
WHERE first.state <> 'parked'
    AND %(token)s = (
        SELECT slices.token
        FROM indelible.group_slices AS slices
        WHERE slices.group_id = %(group_id)s AND slices.slice = first.slice
    )
ORDER BY first.not_before
LIMIT 500
