-- One row without meaning: an error where an event copied between two positions is in the archive.
SELECT indelible.check_import(%(first)s::bigint, %(last)s::bigint, %(archived)s::bigint[])
