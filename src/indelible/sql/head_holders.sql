-- A row a transaction that holds the head back, the oldest first.
SELECT
    pid, application, state, seconds, query
FROM indelible.head_holders()
