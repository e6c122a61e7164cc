-- One row without meaning: nobody else works on the schema until the transaction ends, in which no
-- lock is waited for longer than the timeout.
SELECT
    set_config('lock_timeout', %(timeout)s, true),
    pg_advisory_xact_lock(hashtextextended('indelible migrations ' || %(schema)s, 0))
