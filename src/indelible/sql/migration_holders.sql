-- A row a transaction that keeps a migration from its locks, the oldest three: process (null where
-- prepared), application, state, seconds.
SELECT DISTINCT ON (activity.xact_start, locks.pid)
    locks.pid,
    activity.application_name,
    coalesce(activity.state, 'state not shown'),
    coalesce(extract(epoch FROM clock_timestamp() - activity.xact_start), 0)::double precision
FROM pg_locks AS locks
LEFT JOIN pg_stat_activity AS activity USING (pid)
LEFT JOIN pg_class AS relations ON relations.oid = locks.relation
WHERE locks.granted
    AND locks.pid IS DISTINCT FROM pg_backend_pid()
    AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (
        relations.relnamespace = to_regnamespace(%(schema)s)
        OR locks.locktype = 'advisory'
        AND locks.objsubid = 1
        AND (locks.classid::bigint << 32 | locks.objid::bigint) IN (
            hashtextextended('indelible migrations ' || %(schema)s, 0),
            hashtextextended('indelible lock numbers', 0)
        )
    )
ORDER BY activity.xact_start, locks.pid
LIMIT 3
