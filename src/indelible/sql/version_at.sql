-- One row: the version that a stream had at a position; -1 where it had none.
SELECT indelible.version_at(%(stream)s, %(position)s)
