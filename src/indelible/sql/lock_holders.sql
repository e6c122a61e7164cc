-- A row a transaction that holds locks of the store, those open for longest, the oldest first.
SELECT
    pid, application, state, seconds, query
FROM indelible.lock_holders()
