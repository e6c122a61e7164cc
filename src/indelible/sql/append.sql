-- One row: outcome, last_version, last_position, recorded_at, facts.
SELECT outcome, last_version, last_position, recorded_at, facts
FROM indelible.append(
    %(stream)s::text, %(channel)s::text, %(expected)s::bigint, %(events)s::jsonb
)
