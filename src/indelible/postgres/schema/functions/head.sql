-- The settled position (docs/explanation/ordering.md), and the transactions that hold it back.

CREATE OR REPLACE FUNCTION indelible.lock_head()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    -- The setting is local to the transaction. Like the lock, a rollback to a savepoint undoes it.
    -- It contains the transaction id, so a value that was set before the transaction is ignored.
    setting constant text := 'indelible_holds.head_' || indelible.store_lock_key()::text;
    prefix constant text := pg_current_xact_id()::text || ' ';
    key bigint;
    ignored text;
BEGIN
    IF starts_with(current_setting(setting, true), prefix) THEN
        -- The lock is already held, and taking it again is cheap. So a client that forged the
        -- setting in its transaction holds a lock, too, with a key that is low enough.
        key := least(
            coalesce(pg_sequence_last_value('indelible.events_position'), 0),
            greatest(0, substr(current_setting(setting), length(prefix) + 1)::bigint)
        );
        ignored := pg_advisory_xact_lock_shared(indelible.store_lock_key() << 48 | key)::text;
        RETURN false;
    END IF;
    -- Usually neither is needed. One expression costs less than two.
    IF current_setting('synchronous_commit') = 'off'
        OR current_setting('indelible_epoch.known_' || indelible.store_lock_key()::text, true)
            IS DISTINCT FROM 'yes'
    THEN
        PERFORM indelible.ensure_epoch();
        -- A confirmed commit is on this server's disk, whatever the settings of role and database
        -- are.
        IF current_setting('synchronous_commit') = 'off' THEN
            ignored := set_config('synchronous_commit', 'local', true);
        END IF;
    END IF;
    -- An expression: a statement that reads the sequence as a table takes three times as long. Null
    -- if the sequence was restarted: no position is assigned. A key that is too low is safe, but it
    -- holds the head back further. So the key is read last.
    key := coalesce(pg_sequence_last_value('indelible.events_position'), 0);
    ignored := pg_advisory_xact_lock_shared(indelible.store_lock_key() << 48 | key)::text
        || set_config(setting, prefix || key, true);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.lock_head() IS
    'Holds the head, until the transaction ends, at the last assigned position: events after it may still appear. Called after the lock on append_lock, before a transaction takes its first position. False if the transaction already holds it.';

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
        RAISE EXCEPTION 'the head cannot be used in a % transaction: its snapshot may be older than the head',
            current_setting('transaction_isolation')
        USING ERRCODE = 'IND02', HINT = 'Read the log in a READ COMMITTED transaction.';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the head is not known on a standby, which does not have the locks of writers'
        USING ERRCODE = 'IND03', HINT = 'Read the log from the primary server.';
    END IF;
    PERFORM indelible.ensure_epoch();
    -- The order of these two statements is the guarantee; see docs/explanation/ordering.md.
    SELECT last_value INTO last_position FROM indelible.events_position;
    SELECT min(position) INTO lowest_held FROM indelible.head_locks;
    -- Not beyond the last stored event: positions of a transaction that was rolled back are not
    -- safe on disk, and may be assigned again after a crash.
    RETURN coalesce((
        SELECT max(position) FROM indelible.all_events WHERE position <= least(last_position, lowest_held)
    ), 0);
END
$$;
COMMENT ON FUNCTION indelible.head() IS
    'The settled position (high-water mark): no more events can appear at or below it. Read up to it in a later statement.';

CREATE OR REPLACE FUNCTION indelible.events_since(after bigint, after_id uuid, upto bigint)
RETURNS TABLE (
    "position" bigint,
    stream text,
    version bigint,
    id uuid,
    type text,
    data jsonb,
    metadata jsonb,
    tags text[],
    channel text,
    recorded_at timestamptz,
    valid_at timestamptz
)
LANGUAGE plpgsql
VOLATILE  -- its statements see what was committed since the statement that calls it began
AS $$
#variable_conflict use_column
DECLARE
    max_count constant bigint := 100;
    max_bytes constant bigint := 64 * 1024;  -- compressed
BEGIN
    IF upto > after AND (
        after_id IS NULL
        OR EXISTS (
            SELECT FROM indelible.recorded_events WHERE position = after AND id = after_id
        )
    ) THEN
        RETURN QUERY
        SELECT
            position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
            valid_at
        FROM (
            SELECT
                recorded.*,
                count(*) OVER () AS total_count,
                sum(
                    coalesce(pg_column_size(data), 0) + coalesce(pg_column_size(metadata), 0)
                ) OVER () AS total_bytes
            FROM (
                SELECT
                    position, stream, version, id, type, data, metadata, tags, channel,
                    recorded_at, valid_at
                FROM indelible.recorded_events
                WHERE position > after
                    AND position <= upto
                ORDER BY position
                LIMIT max_count + 1
            ) AS recorded
        ) AS counted
        WHERE total_count <= max_count
            AND total_bytes <= max_bytes
        ORDER BY position;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.events_since(bigint, uuid, bigint) IS
    'The events after a known event, up to the head: all of them, or none if they are many or large, or if this log does not have the known event. Call it after head_state().';

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
    'Describes a transaction for messages: the session''s process, application and state, the age of its transaction and its last statement. Null means a prepared transaction.';

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
    'The open transactions that have appended, the oldest first. The head stays below the positions that they took.';

-- For error messages: one of these transactions holds the lock that another one waits for.
-- Transactions that only read are not among them, because their locks block no others.
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
