-- One row: the outcome, done or missing.
SELECT indelible.erase_stream(%(stream)s::text, %(reason)s::text)
