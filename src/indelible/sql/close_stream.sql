-- One row: outcome, last_version, facts.
SELECT outcome, last_version, facts
FROM indelible.close_stream(%(stream)s::text, %(expected)s::bigint, %(reason)s::text)
