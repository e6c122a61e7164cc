-- One row: the outcome, done or missing.
SELECT indelible.reopen_stream(%(stream)s::text, %(reason)s::text)
