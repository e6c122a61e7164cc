-- One row: the outcome, done, missing or open.
SELECT indelible.archive_stream(%(stream)s::text, %(reason)s::text)
