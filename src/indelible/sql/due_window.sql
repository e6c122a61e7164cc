-- A row for the event that is so many places further in order of valid time, then of position: its
-- valid time and its position. None where there are fewer. Without filters, which would have the
-- planner believe that there are few, and sort them all.
SELECT given_valid_at, position
FROM indelible.recorded_events
WHERE given_valid_at IS NOT NULL
    AND (given_valid_at, position) > (%(above_moment)s::timestamptz, %(above_position)s)
ORDER BY given_valid_at, position
OFFSET %(count)s - 1
LIMIT 1
