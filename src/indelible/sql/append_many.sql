-- A row an entry: place (from 1), outcome, last_version, last_position, recorded_at, facts.
SELECT place, outcome, last_version, last_position, recorded_at, facts
FROM indelible.append_many(%(appends)s::jsonb)
ORDER BY place
