-- Consumer groups: durable, named readers that workers share. docs/explanation/consumer-groups.md tells why
-- nothing is lost, whoever crashes when.

CREATE OR REPLACE FUNCTION indelible.due_key_at(moment timestamptz, "position" bigint)
RETURNS indelible.due_key
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN moment IS NOT NULL THEN ROW(moment, due_key_at.position)::indelible.due_key END;
COMMENT ON FUNCTION indelible.due_key_at(timestamptz, bigint) IS
    'The key of a moment and a position; null where there is no moment.';

CREATE OR REPLACE FUNCTION indelible.partition_key(
    partition_by text, stream text, tags text[], metadata jsonb
)
RETURNS text
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN coalesce(
    CASE
        WHEN partition_by IS NULL THEN stream
        WHEN starts_with(partition_by, 'tag:') THEN (
            SELECT min(tag) FROM unnest(tags) AS given (tag)
            WHERE starts_with(tag, substr(partition_by, 5) || ':')
        )
        ELSE metadata ->> substr(partition_by, 10)
    END,
    stream
);
COMMENT ON FUNCTION indelible.partition_key(text, text, text[], jsonb) IS
    'What keeps an event in order with others: its stream, or a tag or field of its metadata where the event has it.';

CREATE OR REPLACE FUNCTION indelible.slice_of(key text)
RETURNS smallint
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN (hashtextextended(key, 0) & 1023)::smallint;
COMMENT ON FUNCTION indelible.slice_of(text) IS 'The slice, 0 to 1023, that a key falls into.';

CREATE OR REPLACE FUNCTION indelible.group_start(
    after_position bigint, since timestamptz, OUT begins bigint, OUT begins_due indelible.due_key
)
LANGUAGE plpgsql
AS $$
DECLARE
    settled constant bigint := indelible.head();
    last_position constant bigint := (SELECT last_value FROM indelible.events_position);
BEGIN
    IF after_position > last_position THEN
        RAISE EXCEPTION 'position % is beyond the last position, %', after_position, last_position
        USING ERRCODE = 'IND04',
            HINT = 'It is another store''s, or this store was restored to an earlier time: begin after a position that both have, or at the head.';
    END IF;
    begins := coalesce(after_position, settled);
    begins_due := indelible.due_key_at(
        least(
            coalesce(
                since,
                (
                    SELECT recorded_at FROM indelible.all_events
                    WHERE position <= after_position
                    ORDER BY position DESC
                    LIMIT 1
                )
            ),
            clock_timestamp()
        ),
        0
    );
END
$$;
COMMENT ON FUNCTION indelible.group_start(bigint, timestamptz) IS
    'Where a group begins: after a position, or (null) the head; and of what stands before, with what is due from a moment on, or (null) from when that position was the last; from now on at the head.';

CREATE OR REPLACE FUNCTION indelible.group_create(
    group_name text,
    items jsonb,
    partitioned_by text,
    after_position bigint,
    since timestamptz,
    attempts integer,
    retry_after double precision,
    lease double precision,
    holds_back boolean,
    is_due boolean
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    start constant record := indelible.group_start(after_position, since);
    created_id bigint;
BEGIN
    INSERT INTO indelible.groups (
        name, query, partition_by, start_position, max_attempts, retry_seconds, lease_seconds,
        park_blocks_stream, deliver_when_valid
    )
    VALUES (
        group_name, items, partitioned_by, start.begins, attempts, retry_after, lease, holds_back,
        is_due
    )
    ON CONFLICT ON CONSTRAINT groups_name_key DO NOTHING
    RETURNING id INTO created_id;
    IF created_id IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO indelible.group_slices (group_id, slice, position, due)
    SELECT created_id, number, start.begins, CASE WHEN is_due THEN start.begins_due END
    FROM generate_series(0, 1023) AS slices (number);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_create(text, jsonb, text, bigint, timestamptz, integer, double precision, double precision, boolean, boolean) IS
    'Creates a group that begins as group_start says. False where it is there already.';

CREATE OR REPLACE FUNCTION indelible.group_update(
    group_name text,
    items jsonb,
    partitioned_by text,
    attempts integer,
    retry_after double precision,
    lease double precision,
    holds_back boolean,
    is_due boolean
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
BEGIN
    SELECT id, partition_by, deliver_when_valid INTO found
    FROM indelible.groups WHERE name = group_name FOR NO KEY UPDATE;
    IF found.partition_by IS DISTINCT FROM partitioned_by THEN
        RAISE EXCEPTION 'group % is partitioned by %', group_name,
            coalesce(found.partition_by, 'stream')
        USING ERRCODE = 'IND04',
            HINT = 'What keeps events in order is fixed at creation: create another group.';
    END IF;
    IF found.deliver_when_valid <> is_due THEN
        RAISE EXCEPTION 'group % % wait for valid times', group_name,
            CASE WHEN found.deliver_when_valid THEN 'does' ELSE 'does not' END
        USING ERRCODE = 'IND04',
            HINT = 'Whether events wait until they are due is fixed at creation: create another group.';
    END IF;
    UPDATE indelible.groups
    SET query = items, max_attempts = attempts, retry_seconds = retry_after,
        lease_seconds = lease, park_blocks_stream = holds_back, ended_token = last_token
    WHERE id = found.id;
    -- Workers read with the query that they joined with: they join anew.
    UPDATE indelible.group_workers SET expires_at = '-infinity' WHERE group_id = found.id;
    PERFORM indelible.group_expire_workers(found.id);
END
$$;
COMMENT ON FUNCTION indelible.group_update(text, jsonb, text, integer, double precision, double precision, boolean, boolean) IS
    'Gives a group another query or other settings from where it stands; its workers join anew.';

CREATE OR REPLACE FUNCTION indelible.group_delete(group_name text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- First the rows that a worker holds while it writes, which then needs the group's.
    DELETE FROM indelible.group_workers
    USING indelible.groups
    WHERE groups.name = group_name AND group_workers.group_id = groups.id;
    DELETE FROM indelible.groups WHERE name = group_name;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION indelible.group_delete(text) IS
    'Deletes a group with all that is noted for it; false where there is none.';

CREATE OR REPLACE FUNCTION indelible.group_reset(group_name text, after_position bigint, since timestamptz)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    start constant record := indelible.group_start(after_position, since);
    reset_id bigint;
    is_due boolean;
BEGIN
    -- Not FOR UPDATE, for which the foreign keys of what workers write would have to wait, and the
    -- workers' rows after that for each other.
    SELECT id, deliver_when_valid INTO reset_id, is_due
    FROM indelible.groups WHERE name = group_name FOR NO KEY UPDATE;
    IF reset_id IS NULL THEN
        RETURN NULL;
    END IF;
    -- Without their rows the workers of today write nothing more; they join anew.
    UPDATE indelible.groups SET ended_token = last_token WHERE id = reset_id;
    DELETE FROM indelible.group_workers WHERE group_id = reset_id;
    UPDATE indelible.group_slices
    SET token = NULL, position = start.begins, suspect = 0, suspect_due = NULL,
        due = CASE WHEN is_due THEN start.begins_due END
    WHERE group_id = reset_id;
    DELETE FROM indelible.group_events AS noted
    WHERE noted.group_id = reset_id
        AND (
            noted.position > start.begins
            OR is_due AND EXISTS (
                SELECT FROM indelible.all_events AS events
                WHERE events.position = noted.position
                    AND events.valid_at <> events.recorded_at
                    AND events.valid_at >= (start.begins_due).moment
            )
        );
    RETURN start.begins;
END
$$;
COMMENT ON FUNCTION indelible.group_reset(text, bigint, timestamptz) IS
    'Sends a group to a place as group_start says. What was noted of events after it is forgotten: they come again.';

CREATE OR REPLACE FUNCTION indelible.group_lease_expired(group_id bigint, token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (
        SELECT FROM indelible.groups
        WHERE id = group_lease_expired.group_id AND ended_token >= group_lease_expired.token
    ) THEN
        RAISE EXCEPTION 'the group was reset or changed, or the server was started again'
        USING ERRCODE = 'IND05',
            HINT = 'Nothing of this transaction was stored: the worker begins anew by itself.';
    END IF;
    RAISE EXCEPTION 'the lease of worker % is over', token
    USING ERRCODE = 'IND05';
END
$$;
COMMENT ON FUNCTION indelible.group_lease_expired(bigint, bigint) IS
    'Raises IND05, with a hint where an operator or a start of the server ended the lease.';

-- Whoever writes for a group holds its worker's row meanwhile, and whoever buries a worker deletes
-- that row first: so one of the two comes first, and the other sees it.
CREATE OR REPLACE FUNCTION indelible.group_fence(group_id bigint, token bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    lease double precision;
BEGIN
    PERFORM indelible.ensure_epoch();
    SELECT groups.lease_seconds INTO lease
    FROM indelible.group_workers AS workers
    JOIN indelible.groups ON groups.id = workers.group_id
    WHERE workers.group_id = group_fence.group_id AND workers.token = group_fence.token
        AND workers.expires_at > clock_timestamp()
    FOR KEY SHARE OF workers;
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_expired(group_id, token);
    END IF;
    -- A client that is stopped or cut off before its commit would hold the row for ever.
    PERFORM set_config(
        'idle_in_transaction_session_timeout', ceil(greatest(lease, 1) * 1000)::text, true
    );
END
$$;
COMMENT ON FUNCTION indelible.group_fence(bigint, bigint) IS
    'Raises IND05 unless the worker''s lease stands, and keeps it standing until the transaction ends: a client that is silent for longer than the lease loses the transaction.';

CREATE OR REPLACE FUNCTION indelible.group_expire_workers(group_id bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    dead record;
BEGIN
    FOR dead IN
        SELECT token, checkpoint, checkpoint_due, delivered, delivered_due
        FROM indelible.group_workers
        WHERE group_id = group_expire_workers.group_id AND expires_at <= clock_timestamp()
        FOR UPDATE SKIP LOCKED
    LOOP
        DELETE FROM indelible.group_workers
        WHERE group_id = group_expire_workers.group_id
            AND token = dead.token;
        UPDATE indelible.group_slices
        SET token = NULL,
            position = greatest(position, dead.checkpoint),
            due = greatest(due, dead.checkpoint_due),
            suspect_due = greatest(suspect_due, dead.delivered_due),
            -- It may have said so in advance: what is yet to be written was handed to nobody.
            suspect = greatest(suspect, least(
                dead.delivered, (SELECT last_value FROM indelible.events_position)
            ))
        WHERE group_id = group_expire_workers.group_id AND token = dead.token;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.group_expire_workers(bigint) IS
    'Takes their slices from workers whose lease is over.';

CREATE OR REPLACE FUNCTION indelible.group_join(
    group_name text,
    worker_name text,
    instance uuid,
    OUT group_id bigint,
    OUT token bigint,
    OUT epoch uuid
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
DECLARE
    lease double precision;
BEGIN
    PERFORM indelible.ensure_epoch();
    epoch := (SELECT epochs.epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1);
    UPDATE indelible.groups
    SET last_token = last_token + 1
    WHERE name = group_name
    RETURNING id, last_token, lease_seconds INTO group_id, token, lease;
    IF group_id IS NULL THEN
        RETURN;
    END IF;
    -- Joins of a group come one after the other from here on. What this worker had before is freed
    -- at once: it lost its lease without a burial, or did not hear of an earlier call of this.
    UPDATE indelible.group_workers AS former
    SET expires_at = '-infinity'
    WHERE former.group_id = group_join.group_id AND former.token IN (
        SELECT same.token FROM indelible.group_workers AS same
        WHERE same.group_id = group_join.group_id AND same.instance = group_join.instance
        FOR NO KEY UPDATE SKIP LOCKED
    );
    PERFORM indelible.group_expire_workers(group_id);
    INSERT INTO indelible.group_workers (group_id, token, name, instance, expires_at)
    VALUES (
        group_id, token, worker_name, instance,
        clock_timestamp() + make_interval(secs => lease)
    );
END
$$;
COMMENT ON FUNCTION indelible.group_join(text, text, uuid) IS
    'Gives a worker a token higher than all before it, and ends those that it had; says the epoch of the log that it reads. Nulls where there is no such group.';

CREATE OR REPLACE FUNCTION indelible.group_heartbeat(
    group_id bigint,
    token bigint,
    round integer,
    checkpoint bigint,
    checkpoint_due_at timestamptz,
    checkpoint_due_position bigint,
    delivered bigint,
    delivered_due_at timestamptz,
    delivered_due_position bigint,
    slices smallint[],
    positions bigint[],
    due_times timestamptz[],
    due_positions bigint[],
    OUT share integer,
    OUT unowned integer
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.ensure_epoch();
    -- A beat lost in a crash of the server costs a second delivery, which may happen anyway.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.group_workers
    SET expires_at = clock_timestamp() + make_interval(secs => groups.lease_seconds),
        -- The highest of a round: a beat may be sent twice, and come late.
        checkpoint = greatest(checkpoint, group_heartbeat.checkpoint),
        checkpoint_due = greatest(
            checkpoint_due, indelible.due_key_at(checkpoint_due_at, checkpoint_due_position)
        ),
        delivered = greatest(delivered, group_heartbeat.delivered),
        delivered_due = greatest(
            delivered_due, indelible.due_key_at(delivered_due_at, delivered_due_position)
        )
    FROM indelible.groups
    WHERE groups.id = group_heartbeat.group_id
        AND group_workers.group_id = group_heartbeat.group_id
        AND group_workers.token = group_heartbeat.token
        AND group_workers.round = group_heartbeat.round
        AND group_workers.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_expired(group_id, token);
    END IF;
    -- What is finished above the checkpoint, where one event keeps that down for long. A handler
    -- whose transaction is about to commit has its slice's row: a sign of life waits for nobody.
    IF cardinality(slices) > 0 THEN
        WITH free AS (
            SELECT held.slice FROM indelible.group_slices AS held
            WHERE held.group_id = group_heartbeat.group_id AND held.token = group_heartbeat.token
                AND held.slice = ANY(slices)
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE indelible.group_slices AS owned
        SET position = greatest(owned.position, given.position),
            due = greatest(owned.due, indelible.due_key_at(given.moment, given.place))
        FROM unnest(slices, positions, due_times, due_positions)
            AS given (slice, position, moment, place)
        JOIN free USING (slice)
        WHERE owned.group_id = group_heartbeat.group_id
            AND owned.token = group_heartbeat.token
            AND owned.slice = given.slice;
    END IF;
    PERFORM indelible.group_expire_workers(group_id);
    SELECT ceil(1024.0 / count(*)) INTO share
    FROM indelible.group_workers WHERE group_id = group_heartbeat.group_id;
    SELECT count(*) INTO unowned
    FROM indelible.group_slices WHERE group_id = group_heartbeat.group_id AND token IS NULL;
END
$$;
COMMENT ON FUNCTION indelible.group_heartbeat(bigint, bigint, integer, bigint, timestamptz, bigint, bigint, timestamptz, bigint, smallint[], bigint[], timestamptz[], bigint[]) IS
    'Renews a lease and notes how far the worker is; says how many slices are its share, and how many belong to nobody. Raises IND05 where the lease is over.';

CREATE OR REPLACE FUNCTION indelible.group_renew_lease(group_id bigint, token bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.group_workers AS worker
    SET expires_at = clock_timestamp() + make_interval(secs => groups.lease_seconds)
    FROM indelible.groups
    WHERE groups.id = group_renew_lease.group_id
        AND (worker.group_id, worker.token) IN (
            -- One that is locked is at a write of its own, which renews its lease, or is buried.
            SELECT alive.group_id, alive.token
            FROM indelible.group_workers AS alive
            WHERE alive.group_id = group_renew_lease.group_id
                AND alive.token = group_renew_lease.token
                AND alive.expires_at > clock_timestamp()
            FOR NO KEY UPDATE SKIP LOCKED
        );
    RETURN FOUND OR EXISTS (
        SELECT FROM indelible.group_workers
        WHERE group_id = group_renew_lease.group_id
            AND token = group_renew_lease.token
            AND expires_at > clock_timestamp()
    );
END
$$;
COMMENT ON FUNCTION indelible.group_renew_lease(bigint, bigint) IS
    'Renews a lease and does nothing else, and never waits; says whether the lease stands.';

CREATE OR REPLACE FUNCTION indelible.group_rebalance(
    group_id bigint,
    token bigint,
    round integer,
    slices smallint[],
    positions bigint[],
    due_times timestamptz[],
    due_positions bigint[],
    given_back smallint[],
    wanted integer
)
RETURNS TABLE (
    slice smallint,
    after_position bigint,
    due indelible.due_key,
    suspect bigint,
    suspect_due indelible.due_key
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
DECLARE
    stands_at integer;
BEGIN
    PERFORM indelible.ensure_epoch();
    SELECT round INTO stands_at
    FROM indelible.group_workers
    WHERE group_id = group_rebalance.group_id
        AND token = group_rebalance.token
        AND round IN (group_rebalance.round, group_rebalance.round + 1)
        AND expires_at > clock_timestamp()
    -- Not FOR UPDATE, for which handlers that are about to commit would have to be waited for: what
    -- they write holds their slices.
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_expired(group_id, token);
    END IF;
    IF stands_at = group_rebalance.round THEN
        -- Each slice's own place is written down, since the checkpoint of all is about to go back to
        -- the lowest of the slices that come.
        UPDATE indelible.group_slices AS owned
        SET position = greatest(owned.position, given.position),
            due = greatest(owned.due, indelible.due_key_at(given.moment, given.place)),
            token = CASE WHEN owned.slice = ANY(given_back) THEN NULL ELSE owned.token END
        FROM unnest(slices, positions, due_times, due_positions)
            AS given (slice, position, moment, place)
        WHERE owned.group_id = group_rebalance.group_id
            AND owned.token = group_rebalance.token
            AND owned.slice = given.slice
            -- Not the others: a handler that is about to commit has the row of its slice.
            AND (
                owned.slice = ANY(given_back)
                OR given.position > owned.position
                OR greatest(owned.due, indelible.due_key_at(given.moment, given.place))
                    IS DISTINCT FROM owned.due
            );
        UPDATE indelible.group_slices AS taken
        SET token = group_rebalance.token
        WHERE taken.group_id = group_rebalance.group_id AND taken.slice IN (
            SELECT free.slice
            FROM indelible.group_slices AS free
            WHERE free.group_id = group_rebalance.group_id AND free.token IS NULL
                AND NOT free.slice = ANY(given_back)
            ORDER BY free.slice
            LIMIT wanted
            FOR UPDATE SKIP LOCKED
        );
        UPDATE indelible.group_workers
        SET round = group_rebalance.round + 1,
            checkpoint = coalesce((
                SELECT min(owned.position) FROM indelible.group_slices AS owned
                WHERE owned.group_id = group_rebalance.group_id
                    AND owned.token = group_rebalance.token
            ), 0),
            checkpoint_due = (
                SELECT owned.due FROM indelible.group_slices AS owned
                WHERE owned.group_id = group_rebalance.group_id
                    AND owned.token = group_rebalance.token
                ORDER BY owned.due
                LIMIT 1
            )
        WHERE group_id = group_rebalance.group_id AND token = group_rebalance.token;
    END IF; -- otherwise the same call once more, after an answer that was lost
    RETURN QUERY
        SELECT owned.slice, owned.position, owned.due, owned.suspect, owned.suspect_due
        FROM indelible.group_slices AS owned
        WHERE owned.group_id = group_rebalance.group_id AND owned.token = group_rebalance.token;
END
$$;
COMMENT ON FUNCTION indelible.group_rebalance(bigint, bigint, integer, smallint[], bigint[], timestamptz[], bigint[], smallint[], integer) IS
    'Writes down the places of a worker''s slices, gives some back, takes some that belong to nobody; returns all that it has then. The same call once more returns that again. Raises IND05 where the lease is over.';

CREATE OR REPLACE FUNCTION indelible.group_leave(
    group_id bigint,
    token bigint,
    slices smallint[],
    positions bigint[],
    due_times timestamptz[],
    due_positions bigint[]
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.ensure_epoch();
    PERFORM FROM indelible.group_workers
    WHERE group_id = group_leave.group_id
        AND token = group_leave.token
        AND expires_at > clock_timestamp()
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN; -- it has left, or others take over
    END IF;
    -- Also those that it was dealt and did not hear of, which stand where they stood.
    UPDATE indelible.group_slices AS owned
    SET token = NULL,
        position = greatest(owned.position, given.position),
        due = greatest(owned.due, indelible.due_key_at(given.moment, given.place))
    FROM (
        SELECT had.slice, told.position, told.moment, told.place
        FROM indelible.group_slices AS had
        LEFT JOIN unnest(slices, positions, due_times, due_positions)
            AS told (slice, position, moment, place) USING (slice)
        WHERE had.group_id = group_leave.group_id AND had.token = group_leave.token
    ) AS given
    WHERE owned.group_id = group_leave.group_id
        AND owned.token = group_leave.token
        AND owned.slice = given.slice;
    DELETE FROM indelible.group_workers
    WHERE group_id = group_leave.group_id
        AND token = group_leave.token;
END
$$;
COMMENT ON FUNCTION indelible.group_leave(bigint, bigint, smallint[], bigint[], timestamptz[], bigint[]) IS
    'Gives all slices back at their places, and ends the lease.';

-- The events of a slice are handed out in order: when one is finished, or gets a row, those before
-- it are finished or have rows. That is written down in the same transaction, so that after a crash
-- neither it nor anything of that comes again. So whatever has a row was handed out before what has
-- none, and the numbers of the rows of a key are the order in which they were.
CREATE OR REPLACE FUNCTION indelible.group_advance(
    group_id bigint,
    slice smallint,
    upto bigint,
    upto_due_at timestamptz,
    upto_due_position bigint
)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    UPDATE indelible.group_slices
    SET position = greatest(position, upto),
        due = greatest(due, indelible.due_key_at(upto_due_at, upto_due_position))
    WHERE group_id = group_advance.group_id AND slice = group_advance.slice AND upto IS NOT NULL;
END
$$;
COMMENT ON FUNCTION indelible.group_advance(bigint, smallint, bigint, timestamptz, bigint) IS
    'Writes down up to where the events of a slice are finished; nulls move nothing. The caller holds the slice.';

CREATE OR REPLACE FUNCTION indelible.group_lock_event(
    group_id bigint,
    token bigint,
    "position" bigint,
    slice smallint,
    is_tracked boolean,
    due_at timestamptz
)
RETURNS boolean
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    stands record;
BEGIN
    PERFORM indelible.group_fence(group_id, token);
    -- First the lock, then the look, in a later statement: the handler may be about to finish the
    -- event in a transaction of which it only heard that the connection was lost.
    SELECT position, due INTO stands
    FROM indelible.group_slices
    WHERE group_id = group_lock_event.group_id
        AND slice = group_lock_event.slice
        AND token = group_lock_event.token
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the event at position % belongs to another worker now', position
        USING ERRCODE = 'IND05';
    END IF;
    RETURN EXISTS (
        SELECT FROM indelible.group_events
        WHERE group_id = group_lock_event.group_id AND position = group_lock_event.position
    ) OR NOT is_tracked AND (
        stands.position >= group_lock_event.position
        AND (
            due_at IS NULL OR stands.due >= indelible.due_key_at(due_at, group_lock_event.position)
        )
    ) IS NOT TRUE;
END
$$;
COMMENT ON FUNCTION indelible.group_lock_event(bigint, bigint, bigint, smallint, boolean, timestamptz) IS
    'Holds a worker''s lease and the slice of an event until the transaction ends; false where the event is finished. Raises IND05 where either is another''s.';

CREATE OR REPLACE FUNCTION indelible.group_record_attempt(
    group_id bigint,
    token bigint,
    "position" bigint,
    slice smallint,
    key text,
    is_tracked boolean,
    attempt integer,
    due_at timestamptz,
    upto bigint,
    upto_due_at timestamptz,
    upto_due_position bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
BEGIN
    IF NOT indelible.group_lock_event(
        group_id, token, position, slice, is_tracked, due_at
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.group_advance(group_id, slice, upto, upto_due_at, upto_due_position);
    INSERT INTO indelible.group_events AS noted
        (group_id, position, slice, key, state, attempts, not_before)
    VALUES (group_id, position, slice, key, 'running', attempt, clock_timestamp())
    ON CONFLICT ON CONSTRAINT group_events_pkey DO UPDATE
    SET state = 'running', attempts = excluded.attempts, updated_at = clock_timestamp()
    -- Otherwise the same call once more, after an answer that was lost.
    WHERE noted.attempts < excluded.attempts;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_record_attempt(bigint, bigint, bigint, smallint, text, boolean, integer, timestamptz, bigint, timestamptz, bigint) IS
    'Counts an attempt before the handler has the event, so that one that kills its worker is found out; false where the event is finished.';

CREATE OR REPLACE FUNCTION indelible.group_record_failure(
    group_id bigint,
    token bigint,
    "position" bigint,
    slice smallint,
    key text,
    is_tracked boolean,
    state text,
    attempts integer,
    delay double precision,
    why text,
    error_text text,
    due_at timestamptz,
    upto bigint,
    upto_due_at timestamptz,
    upto_due_position bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
BEGIN
    IF NOT indelible.group_lock_event(
        group_id, token, position, slice, is_tracked, due_at
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.group_advance(group_id, slice, upto, upto_due_at, upto_due_position);
    -- Whoever erases a stream holds its row, then removes what is noted of its events: either that
    -- has happened, or it waits for this and then finds it. The text may repeat what is erased.
    PERFORM FROM indelible.streams
    WHERE id = (
        SELECT stream_id FROM indelible.recorded_events
        WHERE position = group_record_failure.position
    )
    FOR KEY SHARE;
    IF EXISTS (
        SELECT FROM indelible.recorded_events
        WHERE position = group_record_failure.position AND data IS NULL
    ) THEN
        DELETE FROM indelible.group_events
        WHERE group_id = group_record_failure.group_id
            AND position = group_record_failure.position;
        RETURN false;
    END IF;
    INSERT INTO indelible.group_events
        (group_id, position, slice, key, state, attempts, not_before, reason, error)
    VALUES (
        group_id, position, slice, key, state, attempts,
        clock_timestamp() + make_interval(secs => delay), why, error_text
    )
    ON CONFLICT ON CONSTRAINT group_events_pkey DO UPDATE
    SET state = excluded.state, attempts = excluded.attempts, not_before = excluded.not_before,
        reason = excluded.reason, error = excluded.error, updated_at = clock_timestamp();
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_record_failure(bigint, bigint, bigint, smallint, text, boolean, text, integer, double precision, text, text, timestamptz, bigint, timestamptz, bigint) IS
    'Notes an event to be tried again, or parked; false where it is finished after all, or erased.';

CREATE OR REPLACE FUNCTION indelible.group_enqueue(
    group_id bigint,
    token bigint,
    "position" bigint,
    slice smallint,
    key text,
    due_at timestamptz,
    upto bigint,
    upto_due_at timestamptz,
    upto_due_position bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
#variable_conflict use_column
DECLARE
    queued boolean;
BEGIN
    IF NOT indelible.group_lock_event(
        group_id, token, position, slice, false, due_at
    ) THEN
        RETURN true;
    END IF;
    INSERT INTO indelible.group_events
        (group_id, position, slice, key, state, attempts, not_before)
    SELECT group_id, position, slice, key, 'queued', 0, clock_timestamp()
    WHERE EXISTS (
        SELECT
        FROM indelible.group_events AS earlier
        JOIN indelible.groups ON groups.id = earlier.group_id
        WHERE earlier.group_id = group_enqueue.group_id AND earlier.key = group_enqueue.key
            AND earlier.position <> group_enqueue.position
            AND (groups.park_blocks_stream OR earlier.state <> 'parked')
    )
    ON CONFLICT ON CONSTRAINT group_events_pkey DO NOTHING;
    queued := EXISTS (
        SELECT FROM indelible.group_events
        WHERE group_id = group_enqueue.group_id AND position = group_enqueue.position
    );
    IF queued THEN
        PERFORM indelible.group_advance(group_id, slice, upto, upto_due_at, upto_due_position);
    END IF;
    RETURN queued;
END
$$;
COMMENT ON FUNCTION indelible.group_enqueue(bigint, bigint, bigint, smallint, text, timestamptz, bigint, timestamptz, bigint) IS
    'Queues an event behind an earlier one of its key; false where none is left to wait for. True where it is finished: there is nothing left to be done.';

CREATE OR REPLACE FUNCTION indelible.group_ack(
    group_id bigint,
    token bigint,
    "position" bigint,
    slice smallint,
    is_tracked boolean,
    due_at timestamptz,
    upto bigint,
    upto_due_at timestamptz,
    upto_due_position bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
BEGIN
    IF NOT indelible.group_lock_event(
        group_id, token, position, slice, is_tracked, due_at
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.group_advance(group_id, slice, upto, upto_due_at, upto_due_position);
    IF NOT is_tracked THEN
        RETURN true;
    END IF;
    DELETE FROM indelible.group_events
    WHERE group_id = group_ack.group_id AND position = group_ack.position AND state = 'running';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the event at position % is not at work', position
        USING ERRCODE = 'IND05';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_ack(bigint, bigint, bigint, smallint, boolean, timestamptz, bigint, timestamptz, bigint) IS
    'Finishes one event, in the transaction of the caller: with it, or not at all. False where it was finished before.';

CREATE OR REPLACE FUNCTION indelible.group_replay(group_name text, "position" bigint, key text)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
BEGIN
    UPDATE indelible.group_events AS noted
    SET state = 'retry', attempts = 0, not_before = clock_timestamp(),
        reason = 'replayed by an operator', updated_at = clock_timestamp()
    FROM indelible.groups
    WHERE groups.name = group_name AND noted.group_id = groups.id AND noted.state = 'parked'
        AND (group_replay.position IS NULL OR noted.position = group_replay.position)
        AND (group_replay.key IS NULL OR noted.key = group_replay.key);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION indelible.group_replay(text, bigint, text) IS
    'Has parked events tried again: one, those of a key, or (both null) all. Returns how many.';

CREATE OR REPLACE FUNCTION indelible.group_discard(group_name text, "position" bigint, key text)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
BEGIN
    DELETE FROM indelible.group_events AS noted
    USING indelible.groups
    WHERE groups.name = group_name AND noted.group_id = groups.id AND noted.state = 'parked'
        AND (group_discard.position IS NULL OR noted.position = group_discard.position)
        AND (group_discard.key IS NULL OR noted.key = group_discard.key);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION indelible.group_discard(text, bigint, text) IS
    'Gives parked events up: one, those of a key, or (both null) all. Returns how many.';

CREATE OR REPLACE FUNCTION indelible.group_first_pending(group_id bigint, holds_back boolean)
RETURNS TABLE (
    key text,
    "position" bigint,
    slice smallint,
    state text,
    attempts integer,
    not_before timestamptz
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    -- From key to key by the index: thousands may be queued behind each.
    WITH RECURSIVE firsts AS (
        (
            SELECT noted.key, noted.position, noted.slice, noted.state, noted.attempts,
                noted.not_before
            FROM indelible.group_events AS noted
            WHERE noted.group_id = group_first_pending.group_id
                AND (holds_back OR noted.state <> 'parked')
            ORDER BY noted.key, noted.number
            LIMIT 1
        )
        UNION ALL
        SELECT later.*
        FROM firsts
        CROSS JOIN LATERAL (
            SELECT noted.key, noted.position, noted.slice, noted.state, noted.attempts,
                noted.not_before
            FROM indelible.group_events AS noted
            WHERE noted.group_id = group_first_pending.group_id AND noted.key > firsts.key
                AND (holds_back OR noted.state <> 'parked')
            ORDER BY noted.key, noted.number
            LIMIT 1
        ) AS later
    )
    SELECT firsts.* FROM firsts
$$;
COMMENT ON FUNCTION indelible.group_first_pending(bigint, boolean) IS
    'The first noted event of each key: later ones of the key wait for it. Parked ones are left out where they hold nothing back.';

CREATE OR REPLACE FUNCTION indelible.group_slice_progress(group_id bigint)
RETURNS TABLE (slice smallint, "position" bigint, due indelible.due_key)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        slices.slice,
        greatest(slices.position, workers.checkpoint),
        greatest(slices.due, workers.checkpoint_due)
    FROM indelible.group_slices AS slices
    LEFT JOIN indelible.group_workers AS workers USING (group_id, token)
    WHERE slices.group_id = group_slice_progress.group_id
$$;
COMMENT ON FUNCTION indelible.group_slice_progress(bigint) IS
    'Up to where each slice of a group is finished, but for what has a row in group_events.';

CREATE OR REPLACE FUNCTION indelible.group_overdue_events(group_id bigint)
RETURNS TABLE ("position" bigint, since timestamptz)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    lowest timestamptz;
BEGIN
    SELECT min((places.due).moment) INTO lowest
    FROM indelible.group_slice_progress(group_id) AS places;
    RETURN QUERY
        SELECT recorded.position, recorded.given_valid_at
        FROM indelible.groups
        CROSS JOIN indelible.recorded_events AS recorded
        JOIN indelible.group_slice_progress(group_overdue_events.group_id) AS places
            ON places.slice = indelible.slice_of(
                indelible.partition_key(
                    groups.partition_by, recorded.stream, recorded.tags, recorded.metadata
                )
            )
        WHERE groups.id = group_overdue_events.group_id
            AND groups.deliver_when_valid
            AND recorded.given_valid_at >= lowest
            AND recorded.given_valid_at <= statement_timestamp()
            AND recorded.given_valid_at <> recorded.recorded_at
            AND recorded.data IS NOT NULL
            AND recorded.position <= places.position
            AND indelible.due_key_at(recorded.given_valid_at, recorded.position) > places.due
            AND NOT EXISTS (
                SELECT FROM indelible.group_events AS noted
                WHERE noted.group_id = group_overdue_events.group_id
                    AND noted.position = recorded.position
            )
            AND (
                groups.query IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        groups.query, recorded.type, recorded.tags, recorded.channel, recorded.stream
                    )
                )
            );
END
$$;
COMMENT ON FUNCTION indelible.group_overdue_events(bigint) IS
    'The events that a group that waits for valid times passed when they were yet to come, and which have become due and are not finished; since when they are due.';

CREATE OR REPLACE FUNCTION indelible.group_checkpoint(group_id bigint)
RETURNS bigint
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(
        (
            SELECT min(places.position)
            FROM indelible.group_slice_progress(group_checkpoint.group_id) AS places
        ),
        (
            -- Not what is parked, nor what waits behind it: that is set aside. The first of a key
            -- need not be the lowest where they are handed out by valid time.
            SELECT min(noted.position) - 1
            FROM indelible.groups
            CROSS JOIN LATERAL indelible.group_first_pending(groups.id, groups.park_blocks_stream) AS firsts
            CROSS JOIN LATERAL (
                SELECT waiting.position
                FROM indelible.group_events AS waiting
                WHERE waiting.group_id = group_checkpoint.group_id AND waiting.key = firsts.key
                    AND waiting.state <> 'parked'
                ORDER BY waiting.position
                LIMIT 1
            ) AS noted
            WHERE groups.id = group_checkpoint.group_id AND firsts.state <> 'parked'
        ),
        (
            SELECT min(overdue.position) - 1
            FROM indelible.groups
            CROSS JOIN LATERAL indelible.group_overdue_events(groups.id) AS overdue
            WHERE groups.id = group_checkpoint.group_id AND groups.deliver_when_valid
        )
    )
$$;
COMMENT ON FUNCTION indelible.group_checkpoint(bigint) IS
    'Below the lowest position that is due and not finished, counting what is in flight, retried or replayed; parked events are set aside.';
