-- name: correlation_indexes
-- One row per index on the correlation of events: its name, and whether it is complete.
SELECT relname, indisvalid
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = to_regnamespace(%(schema)s)
    AND relname IN ('events_correlation_index', 'archived_events_correlation_index')

-- name: drop_archived_events_correlation_index
DROP INDEX CONCURRENTLY indelible.archived_events_correlation_index

-- name: drop_events_correlation_index
DROP INDEX CONCURRENTLY indelible.events_correlation_index

-- name: function_set
-- At most one row: the number of the set of functions that the store has, and the checksums of its
-- files.
SELECT number, checksums FROM indelible.function_sets ORDER BY number DESC LIMIT 1

-- name: index_archived_events_correlation_index
-- As for the other table.
CREATE INDEX CONCURRENTLY archived_events_correlation_index ON indelible.archived_events (
    left(coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId'), 255),
    position
)
WHERE left(coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId'), 255) IS NOT NULL

-- name: index_events_correlation_index
-- The statement `correlated` of `admin` has the same expression. It is cut to 255 characters: an
-- index takes no long text, and an append would fail.
CREATE INDEX CONCURRENTLY events_correlation_index ON indelible.events (
    left(coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId'), 255),
    position
)
WHERE left(coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId'), 255) IS NOT NULL

-- name: insert_function_set
-- Notes that a set of functions was applied.
INSERT INTO indelible.function_sets (number, checksums)
VALUES (%(number)s, %(checksums)s::text::jsonb)

-- name: lock_holders
-- A row a transaction that holds locks of the store, those open for longest, the oldest first.
SELECT
    pid, application, state, seconds, query
FROM indelible.lock_holders()

-- name: migration_holders
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

-- name: migration_lock
-- One row without meaning: nobody else works on the schema until the transaction ends, in which no
-- lock is waited for longer than the timeout.
SELECT
    set_config('lock_timeout', %(timeout)s, true),
    pg_advisory_xact_lock(hashtextextended('indelible migrations ' || %(schema)s, 0))

-- name: repair_store
-- One row without meaning: what was wrong with the store is repaired.
SELECT indelible.repair_store()

-- name: reset_session
-- Undoes what a caller may have left behind in a session: locks, settings, the role, cursors,
-- LISTEN and temporary tables. One row: whether a statement is left that was prepared by SQL.
SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql), pg_advisory_unlock_all();
RESET SESSION AUTHORIZATION;
RESET ROLE;
RESET ALL;
CLOSE ALL;
UNLISTEN *;
DISCARD TEMP;

-- name: store_version
-- One row: the numbers of the last migration and of the last set of functions applied; what is wrong
-- with the store, null for nothing; what that is about: a name, and a number. A new epoch begins
-- here, if one has to: whoever begins it in a long transaction would keep all others waiting.
SELECT
    CASE WHEN problem IS DISTINCT FROM 'renamed' THEN indelible.last_migration() END,
    CASE WHEN problem IS DISTINCT FROM 'renamed' THEN indelible.last_function_set() END,
    problem,
    subject,
    number
FROM indelible.store_problem('indelible.events'::regclass)
WHERE CASE WHEN problem = 'renamed' THEN true ELSE indelible.epoch() IS NOT NULL END

-- name: session
-- Sets what the store relies on, whatever the database, the role, the URL or the environment say.
-- Behind a pooler the session is everybody's: there it counts for this statement only.
-- A row a setting: whether the session is shared, the name, what it was, what it is.
SELECT
    pg_backend_pid() <> %(told)s::integer,
    name,
    current_setting(name),
    set_config(name, value, pg_backend_pid() <> %(told)s::integer)
FROM (
    VALUES
        ('default_transaction_isolation', 'read committed'),
        ('array_nulls', 'on'),
        ('standard_conforming_strings', 'on'),
        ('transform_null_equals', 'off'),
        ('exit_on_error', 'off'),
        -- A commit that a synchronous standby has not confirmed is told by a warning.
        ('client_min_messages', 'notice'),
        -- No lock is waited for without an end.
        ('lock_timeout', %(lock_timeout)s),
        -- The server finds a dead client as the client finds a dead server, also while it works.
        ('tcp_keepalives_idle', %(keepalives_idle)s),
        ('tcp_keepalives_interval', %(keepalives_interval)s),
        ('tcp_keepalives_count', %(keepalives_count)s),
        ('tcp_user_timeout', %(tcp_user_timeout)s),
        ('client_connection_check_interval', '10000')
) AS wanted (name, value)
WHERE
    -- Who has set these bounds keeps them.
    (name NOT IN ('lock_timeout', 'client_connection_check_interval') OR current_setting(name) = '0')
    -- Not every system can tell that a client has gone while its statement runs.
    AND (name <> 'client_connection_check_interval' OR version() ~ 'linux|apple')

-- name: unreleased_store
-- One row: whether a library before its first release made the store.
SELECT to_regprocedure('indelible.schema_version()') IS NOT NULL
