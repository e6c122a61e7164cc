-- A row for the first noted event of each key of a worker's that does not wait for an operator:
-- the event, its key and slice, its state and attempts, and in how many seconds it is due.
SELECT
    recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
    recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
    recorded.valid_at, first.key, first.slice, first.state, first.attempts,
    extract(epoch FROM first.not_before - clock_timestamp())::double precision
FROM (
    SELECT DISTINCT ON (noted.key)
        noted.position, noted.key, noted.slice, noted.state, noted.attempts, noted.not_before
    FROM indelible.group_events AS noted
    JOIN indelible.group_slices AS slices
        ON slices.group_id = noted.group_id
        AND slices.slice = noted.slice
        AND slices.token = %(token)s
    WHERE noted.group_id = %(group_id)s
        AND (%(hold_back)s OR noted.state <> 'parked')
    ORDER BY noted.key, noted.position
) AS first
JOIN indelible.recorded_events AS recorded ON recorded.position = first.position
WHERE first.state <> 'parked'
ORDER BY first.not_before
LIMIT 500
