-- One row: the number of the last migration applied.
SELECT indelible.schema_version()
