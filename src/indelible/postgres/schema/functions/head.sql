-- The settled position (docs/explanation/ordering.md), and who holds it back.

CREATE OR REPLACE FUNCTION indelible.lock_head()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    -- The setting is local to the transaction and is undone by a rollback to a savepoint, as the
    -- lock is. It names the transaction: what was set before it, by whomever, says nothing.
    setting constant text := 'indelible_holds.head_' || indelible.store_lock_key()::text;
    prefix constant text := pg_current_xact_id()::text || ' ';
    key bigint;
    ignored text;
BEGIN
    IF starts_with(current_setting(setting, true), prefix) THEN
        -- The lock is held already, and to take it again costs next to nothing: so whoever made the
        -- note up in the middle of its transaction holds a lock as well, that is old enough.
        key := least(
            coalesce(pg_sequence_last_value('indelible.events_position'), 0),
            greatest(0, substr(current_setting(setting), length(prefix) + 1)::bigint)
        );
        ignored := pg_advisory_xact_lock_shared(indelible.store_lock_key() << 48 | key)::text;
        RETURN false;
    END IF;
    IF current_setting('indelible_epoch.known_' || indelible.store_lock_key()::text, true)
        IS DISTINCT FROM 'yes'
    THEN
        PERFORM indelible.ensure_epoch();
    END IF;
    -- What is acknowledged is on this server's disk, whatever role and database are set to.
    IF current_setting('synchronous_commit') = 'off' THEN
        ignored := set_config('synchronous_commit', 'local', true);
    END IF;
    -- An expression: the statement that reads the sequence as a table takes three times as long.
    -- Null where the sequence was restarted: nothing was handed out. A key that is too old loses
    -- nothing, but takes the head back to it: so it is read last.
    key := coalesce(pg_sequence_last_value('indelible.events_position'), 0);
    ignored := pg_advisory_xact_lock_shared(indelible.store_lock_key() << 48 | key)::text
        || set_config(setting, prefix || key, true);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.lock_head() IS
    'Says, until the transaction ends, that positions after the last one handed out may still appear. Called after the lock on append_lock, before a transaction takes its first position; false where it has said so before.';

CREATE OR REPLACE FUNCTION indelible.head()
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last_position bigint;
    lowest_held bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'the head is of no use in a % transaction: its snapshot may be older',
            current_setting('transaction_isolation')
        USING ERRCODE = 'IND02', HINT = 'Read the log in a READ COMMITTED transaction.';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the head is not known on a standby: the locks of writers are not there'
        USING ERRCODE = 'IND03', HINT = 'Read the log from the primary server.';
    END IF;
    PERFORM indelible.ensure_epoch();
    -- The order of these two statements is the guarantee; see docs/explanation/ordering.md.
    SELECT last_value INTO last_position FROM indelible.events_position;
    SELECT min(position) INTO lowest_held FROM indelible.head_locks;
    -- Not beyond the last event that stands: positions taken by a transaction that was undone are
    -- not safe on disk, and after a crash they are handed out anew.
    RETURN coalesce((
        SELECT max(position) FROM indelible.all_events WHERE position <= least(last_position, lowest_held)
    ), 0);
END
$$;
COMMENT ON FUNCTION indelible.head() IS
    'The settled position: at and below it nothing can appear any more. Read up to it in a later statement.';

CREATE OR REPLACE FUNCTION indelible.describe_transaction(pid integer)
RETURNS text
LANGUAGE sql
STABLE
AS $$
    SELECT coalesce(
        (
            SELECT
                format(
                    'process %s (%s, %s) in a transaction of %s s, last statement: %s',
                    describe_transaction.pid,
                    coalesce(nullif(application_name, ''), 'without a name'),
                    coalesce(state, 'state not shown'),
                    round(extract(epoch FROM clock_timestamp() - xact_start)::numeric, 1),
                    left(regexp_replace(query, '\s+', ' ', 'g'), 100)
                )
            FROM pg_stat_activity
            WHERE pid = describe_transaction.pid
        ),
        CASE
            WHEN describe_transaction.pid IS NULL THEN 'a prepared transaction'
            ELSE 'process ' || describe_transaction.pid
        END
    )
$$;
COMMENT ON FUNCTION indelible.describe_transaction(integer) IS
    'For messages: a session''s process, application, state, age of its transaction and last statement; null stands for a prepared transaction.';

CREATE OR REPLACE FUNCTION indelible.head_holders()
RETURNS TABLE (
    pid integer,
    application text,
    state text,
    seconds double precision,
    query text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        locks.pid,
        activity.application_name,
        coalesce(activity.state, 'prepared'),
        extract(epoch FROM clock_timestamp() - activity.xact_start),
        activity.query
    FROM indelible.head_locks AS locks
    LEFT JOIN pg_stat_activity AS activity USING (pid)
    ORDER BY activity.xact_start
$$;
COMMENT ON FUNCTION indelible.head_holders() IS
    'The transactions that appended and have not ended, the oldest first: the head stands before what they took.';

-- For errors: what others wait for is held by one of these. Only reading takes no lock that counts.
CREATE OR REPLACE FUNCTION indelible.lock_holders()
RETURNS TABLE (
    pid integer,
    application text,
    state text,
    seconds double precision,
    query text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        held.pid,
        activity.application_name,
        coalesce(activity.state, 'prepared'),
        extract(
            epoch FROM clock_timestamp() - coalesce(activity.xact_start, prepared.prepared)
        ),
        coalesce(activity.query, prepared.gid)
    FROM (
        SELECT DISTINCT locks.pid, locks.virtualtransaction
        FROM pg_locks AS locks
        JOIN pg_class AS relations ON relations.oid = locks.relation
        JOIN pg_database AS databases ON databases.oid = locks.database
        WHERE locks.granted
            AND locks.mode <> 'AccessShareLock'
            AND databases.datname = current_database()
            AND relations.relnamespace = (
                SELECT relnamespace FROM pg_class WHERE oid = 'indelible.events'::regclass
            )
    ) AS held
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
    LEFT JOIN pg_prepared_xacts AS prepared
        ON held.pid IS NULL AND held.virtualtransaction = '-1/' || prepared.transaction::text
    WHERE held.pid IS DISTINCT FROM pg_backend_pid()
    ORDER BY coalesce(activity.xact_start, prepared.prepared)
    LIMIT 3
$$;
COMMENT ON FUNCTION indelible.lock_holders() IS
    'The open transactions that hold locks of the store, at most three, the oldest first.';
