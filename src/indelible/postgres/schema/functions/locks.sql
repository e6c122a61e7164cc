-- The locks of a store: the number that its advisory locks have, and what an append holds
-- (docs/explanation/dcb.md).

-- Advisory locks share one space per database, so each store has a number of its own in the top
-- bits of its keys, written into a function as a constant. Two stores must not share one: each
-- would hold back the other's head.
CREATE OR REPLACE VIEW indelible.store_lock_keys AS
SELECT
    functions.pronamespace AS schema_id,
    functions.oid AS function_id,
    substring(functions.prosrc, '^SELECT ([0-9]+)::bigint$')::bigint AS number
FROM pg_proc AS functions
WHERE functions.proname = 'store_lock_key';
COMMENT ON VIEW indelible.store_lock_keys IS
    'The numbers that all stores of the database have, as choose_store_lock_key() wrote them: everybody may read the catalog.';

CREATE OR REPLACE FUNCTION indelible.choose_store_lock_key()
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    -- Each store starts elsewhere, so that a new one does not soon reuse the number of a dropped
    -- store.
    first_choice constant bigint := 'indelible.events'::regclass::oid::bigint % 32767;
    free bigint;
BEGIN
    -- One at a time in the database; the next statement sees the numbers that others took.
    PERFORM pg_advisory_xact_lock(hashtextextended('indelible lock numbers', 0));
    SELECT choice.number INTO free
    FROM (
        SELECT (first_choice + step) % 32767 + 1 AS number, step
        FROM generate_series(0, 32766) AS steps (step)
    ) AS choice
    WHERE NOT EXISTS (
        SELECT
        FROM indelible.store_lock_keys AS taken
        WHERE taken.number = choice.number
    )
    ORDER BY choice.step
    LIMIT 1;
    IF free IS NULL THEN
        RAISE EXCEPTION 'all 32,767 lock numbers of this database are taken by other stores'
        USING ERRCODE = 'IND04', HINT = 'Make the store in another database.';
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION indelible.store_lock_key() RETURNS bigint LANGUAGE sql'
        ' IMMUTABLE PARALLEL SAFE AS %L',
        format('SELECT %s::bigint', free)
    );
END
$$;
COMMENT ON FUNCTION indelible.choose_store_lock_key() IS
    'Gives the store a number that no other store of the database has. No other session may use the store meanwhile.';

DO $do$
BEGIN
    IF to_regprocedure('indelible.store_lock_key()') IS NULL THEN
        PERFORM indelible.choose_store_lock_key();
    END IF;
END
$do$;
COMMENT ON FUNCTION indelible.store_lock_key() IS
    'This store''s number in the keys of its advisory locks: key = number << 48 | position.';

-- Any login may take advisory locks. They are ignored if the session does not lock append_lock,
-- which an append locks first and which needs a privilege. (Both locks are read in one scan. It
-- begins after the reader has read the last assigned position, so a later lock belongs to later
-- positions.)
CREATE OR REPLACE VIEW indelible.head_locks AS
WITH locks AS MATERIALIZED (
    SELECT
        pid,
        locktype = 'advisory' AS is_key,
        (classid::bigint & 65535) << 32 | objid::bigint AS position
    FROM pg_locks
    WHERE granted
        AND (
            locktype = 'advisory'
            AND objsubid = 1
            AND mode = 'ShareLock'
            AND classid::bigint >> 16 = indelible.store_lock_key()
            OR relation = 'indelible.append_lock'::regclass
        )
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT pid, position
FROM locks
WHERE is_key
    AND (
        pid IN (SELECT pid FROM locks WHERE NOT is_key)
        -- PREPARE TRANSACTION transfers the two locks one after the other, to no process (pid is
        -- null).
        OR pid IS NULL
        OR EXISTS (SELECT FROM locks WHERE NOT is_key AND pid IS NULL)
    );
COMMENT ON VIEW indelible.head_locks IS
    'The transactions that hold the head back: their processes (null if prepared), and the last assigned position before theirs.';

CREATE OR REPLACE FUNCTION indelible.tag_lock_key(tag text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext(tag COLLATE "C");
COMMENT ON FUNCTION indelible.tag_lock_key(text) IS
    'The second key of a tag''s advisory lock; the first is the store''s number. Two tags that share one only wait for each other.';

CREATE OR REPLACE FUNCTION indelible.distinct_tags(tags jsonb)
RETURNS text[]
LANGUAGE plpgsql
AS $$
BEGIN
    IF tags = '[]' THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT array_agg(DISTINCT tag) FROM jsonb_array_elements_text(tags) AS given (tag));
END
$$;
COMMENT ON FUNCTION indelible.distinct_tags(jsonb) IS 'The tags of a list, each once.';

CREATE OR REPLACE FUNCTION indelible.exceeds_lock_budget(lock_count integer)
RETURNS boolean
LANGUAGE sql  -- so that the planner inlines it
AS $$
    -- As many as the server has room for in each of its connections. The count is a setting local
    -- to the transaction, undone by a rollback to a savepoint as the locks are; empty after its
    -- end.
    SELECT lock_count > current_setting('max_locks_per_transaction')::integer
        OR set_config(
            'indelible_holds.locks_' || indelible.store_lock_key()::text,
            (
                coalesce(
                    nullif(
                        current_setting(
                            'indelible_holds.locks_' || indelible.store_lock_key()::text, true
                        ),
                        ''
                    ),
                    '0'
                )::integer + lock_count
            )::text,
            true
        )::integer > 4 * current_setting('max_locks_per_transaction')::integer
$$;
COMMENT ON FUNCTION indelible.exceeds_lock_budget(integer) IS
    'Counts advisory locks that the transaction is about to take. True if they are too many at once, or with earlier ones: the server''s lock table is limited, and shared by all sessions.';

CREATE OR REPLACE FUNCTION indelible.append_lock_holders()
RETURNS text
LANGUAGE sql
AS $$
    SELECT coalesce(string_agg(indelible.describe_transaction(holders.pid), '; '), 'transactions that have just ended')
    FROM (
        SELECT DISTINCT activity.xact_start, locks.pid
        FROM pg_locks AS locks
        LEFT JOIN pg_stat_activity AS activity USING (pid)
        WHERE locks.granted
            AND locks.pid IS DISTINCT FROM pg_backend_pid()
            AND (
                locks.relation = 'indelible.append_lock'::regclass
                OR locks.locktype = 'advisory'
                AND locks.objsubid = 1
                AND locks.classid::bigint = indelible.store_lock_key() << 16 | 1 << 14
                AND locks.objid = 0
            )
            AND locks.database
                = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY activity.xact_start, locks.pid
        LIMIT 5
    ) AS holders
$$;
COMMENT ON FUNCTION indelible.append_lock_holders() IS
    'The transactions that lock_out_appends() waits for, for messages: the oldest five.';

CREATE OR REPLACE FUNCTION indelible.lock_out_appends(timeout interval)
RETURNS void
LANGUAGE plpgsql
-- While an exclusive lock is waited for, all shared ones queue behind it: each attempt is short.
SET lock_timeout = '200ms'
AS $$
DECLARE
    deadline constant timestamptz := clock_timestamp() + timeout;
    -- One transaction at a time: with several there would always be an attempt in progress. No
    -- position uses bit 46 of the key. (Not ShareLock, which is what head() looks for.)
    turn constant bigint := indelible.store_lock_key() << 48 | 1::bigint << 46;
    has_turn boolean := pg_try_advisory_xact_lock(turn);
    pause double precision := 0.1;
BEGIN
    IF NOT has_turn THEN
        -- The transaction that has the turn waits for all that have appended: for this one, too?
        IF EXISTS (
            SELECT
            FROM pg_locks
            WHERE relation = 'indelible.append_lock'::regclass AND pid = pg_backend_pid()
        ) THEN
            RAISE EXCEPTION 'this transaction has appended and would wait for one that waits for it: %',
                indelible.append_lock_holders()
            USING ERRCODE = 'deadlock_detected',
                HINT = 'Start such a transaction with the append that locks out all others.';
        END IF;
        BEGIN
            PERFORM set_config(
                'lock_timeout', ceil(extract(epoch FROM timeout) * 1000)::text, true
            );
            PERFORM pg_advisory_xact_lock(turn);
            has_turn := true;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
        PERFORM set_config('lock_timeout', '200', true);
    END IF;
    WHILE has_turn LOOP
        BEGIN
            LOCK TABLE indelible.append_lock IN SHARE ROW EXCLUSIVE MODE;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
        EXIT WHEN clock_timestamp() + make_interval(secs => pause) > deadline;
        PERFORM pg_sleep(pause);
        pause := least(2 * pause, 1);
    END LOOP;
    RAISE EXCEPTION 'an append locks out all others if its condition names no tags or its transaction has very many, and this one waited % s for: %',
        round(extract(epoch FROM timeout)), indelible.append_lock_holders()
    USING ERRCODE = 'lock_not_available',
        HINT = 'End these transactions sooner, name tags in the condition, or append again.';
END
$$;
COMMENT ON FUNCTION indelible.lock_out_appends(interval) IS
    'Locks out all other appends until the transaction ends. Raises 55P03 with the lock holders after the timeout, or 40P01 at once if the wait would never end.';

CREATE OR REPLACE FUNCTION indelible.lock_for_append(
    shared_tags text[], exclusive_tags text[] DEFAULT '{}', excludes_appends boolean DEFAULT false
)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    tag_count constant integer := cardinality(shared_tags) + cardinality(exclusive_tags);
BEGIN
    IF NOT excludes_appends AND tag_count = 0 THEN
        LOCK TABLE indelible.append_lock IN ROW EXCLUSIVE MODE;
        RETURN;
    END IF;
    -- Too many tags are replaced by one lock on everything.
    IF excludes_appends OR indelible.exceeds_lock_budget(tag_count) THEN
        PERFORM indelible.lock_out_appends(
            coalesce(nullif(current_setting('lock_timeout')::interval, '0'), '10s')
        );
        RETURN;
    END IF;
    LOCK TABLE indelible.append_lock IN ROW EXCLUSIVE MODE;
    -- Each key once, in its strongest mode and in order, to prevent deadlocks.
    PERFORM CASE
        WHEN tags.is_exclusive
            THEN pg_advisory_xact_lock(indelible.store_lock_key()::integer, tags.key)
        ELSE pg_advisory_xact_lock_shared(indelible.store_lock_key()::integer, tags.key)
    END
    FROM (
        SELECT
            indelible.tag_lock_key(given.name) AS key,
            bool_or(given.is_exclusive) AS is_exclusive
        FROM (
            SELECT name, false AS is_exclusive FROM unnest(shared_tags) AS tags (name)
            UNION ALL
            SELECT name, true FROM unnest(exclusive_tags) AS tags (name)
        ) AS given
        GROUP BY key
        ORDER BY key
    ) AS tags;
END
$$;
COMMENT ON FUNCTION indelible.lock_for_append(text[], text[], boolean) IS
    'Takes the locks that an append with these tags and conditions needs, until the transaction ends.';
