-- A row an entry: place (from 1), outcome, last_version, last_position, recorded_at, facts; or one row
-- with place 0 and the positions of events in the way.
SELECT place, outcome, last_version, last_position, recorded_at, facts
FROM indelible.append_if(%(appends)s::jsonb, %(conditions)s::jsonb)
ORDER BY place
