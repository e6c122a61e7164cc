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

-- name: roles
-- Makes the roles of a store, which log in through others: GRANT … TO your_login_role.
DO $do$
DECLARE
    reader constant text := current_schema || '_reader';
    writer constant text := current_schema || '_writer';
    maintainer constant text := current_schema || '_maintainer';
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[reader, writer, maintainer] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA indelible TO %I', reader);
    EXECUTE format('GRANT %I TO %I', reader, writer);
    EXECUTE format('GRANT %I TO %I', writer, maintainer);
    EXECUTE format(
        'GRANT SELECT ON indelible.recorded_events, indelible.recorded_streams,'
        ' indelible.recorded_unarchived, indelible.recorded_archived,'
        ' indelible.event_tags, indelible.groups,'
        ' indelible.group_workers, indelible.group_slices, indelible.group_events,'
        ' indelible.projections, indelible.projection_partitions,'
        ' indelible.projection_parked, indelible.projection_documents, indelible.documents,'
        ' indelible.periods, indelible.stream_changes TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.head(), indelible.read_matching(jsonb), indelible.head_holders(),'
        ' indelible.lock_holders(), indelible.size(), indelible.epoch(), indelible.head_state(),'
        ' indelible.may_read, indelible.check_checkpoint, indelible.note_settled,'
        ' indelible.schema_version(), indelible.store_problem, indelible.group_checkpoint,'
        ' indelible.group_firsts, indelible.projection_served, indelible.documents_read,'
        ' indelible.documents_all,'
        ' indelible.documents_find,'
        ' indelible.group_places, indelible.group_overdue,'
        ' indelible.partition_key, indelible.slice_of, indelible.known_periods,'
        ' indelible.learn_periods, indelible.position_at, indelible.version_at,'
        ' indelible.load, indelible.load_valid TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.append(text, text, bigint, jsonb), indelible.append_many(jsonb),'
        ' indelible.append_batch(jsonb), indelible.append_if(jsonb, jsonb),'
        ' indelible.wait_at_commit(),'
        ' indelible.group_create, indelible.group_change, indelible.group_delete,'
        ' indelible.group_reset, indelible.group_join, indelible.group_beat,'
        ' indelible.group_renew_lease,'
        ' indelible.group_deal, indelible.group_leave, indelible.group_attempt,'
        ' indelible.group_note, indelible.group_queue, indelible.group_finish,'
        ' indelible.group_replay, indelible.group_discard, indelible.close_stream,'
        ' indelible.reopen_stream, indelible.take_snapshot,'
        ' indelible.projection_register, indelible.projection_lease,'
        ' indelible.projection_beat, indelible.projection_release, indelible.projection_fence,'
        ' indelible.projection_renew_lease,'
        ' indelible.projection_advance, indelible.projection_commit, indelible.projection_hold,'
        ' indelible.projection_take, indelible.projection_put TO %I',
        writer
    );
    EXECUTE format('GRANT SELECT ON indelible.projection_workers TO %I', reader);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.projection_worker_beat, indelible.projection_worker_leave,'
        ' indelible.projection_worker_renew_lease,'
        ' indelible.projection_fail, indelible.projection_park, indelible.projection_restart,'
        ' indelible.projection_discard, indelible.projection_rebuild, indelible.projection_seize,'
        ' indelible.projection_key, indelible.projection_try_lock,'
        ' indelible.projection_serve, indelible.projection_sweep TO %I',
        writer
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.projection_retire TO %I',
        maintainer
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.archive_stream, indelible.erase_stream TO %I',
        maintainer
    );
END
$do$

-- name: schema_version
-- One row: the number of the last migration applied; what is wrong with the store, null for nothing;
-- what that is about: a name, and a number. A new epoch begins here, if one has to: whoever begins it
-- in a long transaction would keep all others waiting.
SELECT
    CASE WHEN problem IS DISTINCT FROM 'renamed' THEN indelible.schema_version() END,
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
