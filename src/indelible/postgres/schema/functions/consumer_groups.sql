-- Consumer groups: durable, named readers that workers share. docs/explanation/consumer-groups.md explains why
-- no event is lost if a worker or the server crashes.

CREATE OR REPLACE FUNCTION indelible.due_key_at(due_at timestamptz, "position" bigint)
RETURNS indelible.due_key
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN due_at IS NOT NULL THEN ROW(due_at, due_key_at.position)::indelible.due_key END;
COMMENT ON FUNCTION indelible.due_key_at(timestamptz, bigint) IS
    'The key of a due time and a position; null if there is no due time.';

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
            SELECT min(tag) FROM unnest(tags) AS event_tags (tag)
            WHERE starts_with(tag, substr(partition_by, 5) || ':')
        )
        ELSE metadata ->> substr(partition_by, 10)
    END,
    stream
);
COMMENT ON FUNCTION indelible.partition_key(text, text, text[], jsonb) IS
    'The key whose events are handled in order: the tag or metadata field, or the stream if the event has none.';

CREATE OR REPLACE FUNCTION indelible.slice_of(key text)
RETURNS smallint
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN (hashtextextended(key, 0) & 1023)::smallint;
COMMENT ON FUNCTION indelible.slice_of(text) IS 'The slice, 0 to 1023, that a key falls into.';

CREATE OR REPLACE FUNCTION indelible.group_start(
    after_position bigint, since timestamptz, OUT start_position bigint, OUT start_due indelible.due_key
)
LANGUAGE plpgsql
AS $$
DECLARE
    head constant bigint := indelible.head();
    last_position constant bigint := (SELECT last_value FROM indelible.events_position);
BEGIN
    IF after_position > last_position THEN
        RAISE EXCEPTION 'position % is beyond the last position, %', after_position, last_position
        USING ERRCODE = 'IND04',
            HINT = 'It belongs to another store, or this store was restored to an earlier time: start after a position that both have, or at the head.';
    END IF;
    start_position := coalesce(after_position, head);
    start_due := indelible.due_key_at(
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
    'The start of a group: a position, or the head if it is null. Of the events before it, those due from a time on are delivered, too: by default from when that position was the last one, and from now on at the head.';

CREATE OR REPLACE FUNCTION indelible.group_create(
    group_name text,
    items jsonb,
    partition_by text,
    after_position bigint,
    since timestamptz,
    max_attempts integer,
    retry_seconds double precision,
    lease_seconds double precision,
    park_blocks_stream boolean,
    deliver_when_valid boolean
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
        group_name, items, partition_by, start.start_position, max_attempts, retry_seconds,
        lease_seconds, park_blocks_stream, deliver_when_valid
    )
    ON CONFLICT ON CONSTRAINT groups_name_key DO NOTHING
    RETURNING id INTO created_id;
    IF created_id IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO indelible.group_slices (group_id, slice, position, due)
    SELECT created_id, number, start.start_position, CASE WHEN deliver_when_valid THEN start.start_due END
    FROM generate_series(0, 1023) AS slices (number);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_create(text, jsonb, text, bigint, timestamptz, integer, double precision, double precision, boolean, boolean) IS
    'Creates a group that starts as group_start() returns. False if the group exists.';

CREATE OR REPLACE FUNCTION indelible.group_update(
    group_name text,
    items jsonb,
    partition_by text,
    max_attempts integer,
    retry_seconds double precision,
    lease_seconds double precision,
    park_blocks_stream boolean,
    deliver_when_valid boolean
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    existing record;
BEGIN
    SELECT id, partition_by, deliver_when_valid INTO existing
    FROM indelible.groups WHERE name = group_name FOR NO KEY UPDATE;
    IF existing.partition_by IS DISTINCT FROM group_update.partition_by THEN
        RAISE EXCEPTION 'group % is partitioned by %', group_name,
            coalesce(existing.partition_by, 'stream')
        USING ERRCODE = 'IND04',
            HINT = 'The partition key cannot be changed: create another group.';
    END IF;
    IF existing.deliver_when_valid <> group_update.deliver_when_valid THEN
        RAISE EXCEPTION 'group % % deliver events when they are valid', group_name,
            CASE WHEN existing.deliver_when_valid THEN 'does' ELSE 'does not' END
        USING ERRCODE = 'IND04',
            HINT = 'deliver_when_valid cannot be changed: create another group.';
    END IF;
    UPDATE indelible.groups
    SET query = items,
        max_attempts = group_update.max_attempts,
        retry_seconds = group_update.retry_seconds,
        lease_seconds = group_update.lease_seconds,
        park_blocks_stream = group_update.park_blocks_stream,
        ended_token = last_token
    WHERE id = existing.id;
    -- Workers read with the query that was in effect when they joined: they join again.
    UPDATE indelible.group_workers SET expires_at = '-infinity' WHERE group_id = existing.id;
    PERFORM indelible.group_expire_workers(existing.id);
END
$$;
COMMENT ON FUNCTION indelible.group_update(text, jsonb, text, integer, double precision, double precision, boolean, boolean) IS
    'Changes the query or the settings of a group, which keeps its progress. Its workers join again.';

CREATE OR REPLACE FUNCTION indelible.group_delete(group_name text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- First the rows of workers: a worker that writes holds its own row and then locks the group's.
    DELETE FROM indelible.group_workers
    USING indelible.groups
    WHERE groups.name = group_name AND group_workers.group_id = groups.id;
    DELETE FROM indelible.groups WHERE name = group_name;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION indelible.group_delete(text) IS
    'Deletes a group with all its rows; false if there is no such group.';

CREATE OR REPLACE FUNCTION indelible.group_reset(group_name text, after_position bigint, since timestamptz)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    start constant record := indelible.group_start(after_position, since);
    reset_id bigint;
    delivers_when_valid boolean;
BEGIN
    -- Not FOR UPDATE: the foreign keys of rows that workers write would wait for it, and then
    -- the workers' rows for each other.
    SELECT id, deliver_when_valid INTO reset_id, delivers_when_valid
    FROM indelible.groups WHERE name = group_name FOR NO KEY UPDATE;
    IF reset_id IS NULL THEN
        RETURN NULL;
    END IF;
    -- Without their rows the current workers cannot write any more; they join again.
    UPDATE indelible.groups SET ended_token = last_token WHERE id = reset_id;
    DELETE FROM indelible.group_workers WHERE group_id = reset_id;
    UPDATE indelible.group_slices
    SET token = NULL, position = start.start_position, suspect = 0, suspect_due = NULL,
        due = CASE WHEN delivers_when_valid THEN start.start_due END
    WHERE group_id = reset_id;
    DELETE FROM indelible.group_events AS tracked
    WHERE tracked.group_id = reset_id
        AND (
            tracked.position > start.start_position
            OR delivers_when_valid AND EXISTS (
                SELECT FROM indelible.all_events AS events
                WHERE events.position = tracked.position
                    AND events.valid_at <> events.recorded_at
                    AND events.valid_at >= (start.start_due).due_at
            )
        );
    RETURN start.start_position;
END
$$;
COMMENT ON FUNCTION indelible.group_reset(text, bigint, timestamptz) IS
    'Moves a group to a position as group_start() returns it, and deletes what is recorded about later events: they are delivered again.';

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
        RAISE EXCEPTION 'the group was reset or changed, or the server was restarted'
        USING ERRCODE = 'IND05',
            HINT = 'Nothing of this transaction was stored; the worker starts again by itself.';
    END IF;
    RAISE EXCEPTION 'the lease of worker % has expired', token
    USING ERRCODE = 'IND05';
END
$$;
COMMENT ON FUNCTION indelible.group_lease_expired(bigint, bigint) IS
    'Raises IND05, with a hint if an operator or a restart of the server ended the lease.';

-- A transaction that writes for a group locks the worker's row until it ends, and one that expires a
-- worker deletes that row first. So one of them comes first, and the second sees its result.
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
    -- A client that is stopped or disconnected before its commit would hold the row forever.
    PERFORM set_config(
        'idle_in_transaction_session_timeout', ceil(greatest(lease, 1) * 1000)::text, true
    );
END
$$;
COMMENT ON FUNCTION indelible.group_fence(bigint, bigint) IS
    'Raises IND05 if the worker''s lease has expired; otherwise keeps the lease until the transaction ends. A client that is idle for longer than the lease loses the transaction.';

CREATE OR REPLACE FUNCTION indelible.group_expire_workers(group_id bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    expired record;
BEGIN
    FOR expired IN
        SELECT token, checkpoint, checkpoint_due, delivered, delivered_due
        FROM indelible.group_workers
        WHERE group_id = group_expire_workers.group_id AND expires_at <= clock_timestamp()
        FOR UPDATE SKIP LOCKED
    LOOP
        DELETE FROM indelible.group_workers
        WHERE group_id = group_expire_workers.group_id
            AND token = expired.token;
        UPDATE indelible.group_slices
        SET token = NULL,
            position = greatest(position, expired.checkpoint),
            due = greatest(due, expired.checkpoint_due),
            suspect_due = greatest(suspect_due, expired.delivered_due),
            -- A worker reports it in advance: a position that is not written yet was not delivered.
            suspect = greatest(suspect, least(
                expired.delivered, (SELECT last_value FROM indelible.events_position)
            ))
        WHERE group_id = group_expire_workers.group_id AND token = expired.token;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.group_expire_workers(bigint) IS
    'Deletes workers whose lease has expired, and releases their slices.';

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
    -- From here on joins of a group run one after the other. What this worker had before is released
    -- at once: its lease expired without being removed, or the answer to an earlier join was lost.
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
    'Gives a worker a token higher than all before it, and ends its earlier leases. Returns the epoch of the log that it reads, too. Nulls if there is no such group.';

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
    -- A heartbeat lost in a crash of the server costs a second delivery, which may happen anyway.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.group_workers
    SET expires_at = clock_timestamp() + make_interval(secs => groups.lease_seconds),
        -- The highest of a round: a heartbeat may be sent twice, and arrive late.
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
    -- What is finished above the checkpoint, which one event may hold back for long. A handler
    -- whose transaction is about to commit locks its slice's row: a heartbeat does not wait for it.
    IF cardinality(slices) > 0 THEN
        WITH free AS (
            SELECT held.slice FROM indelible.group_slices AS held
            WHERE held.group_id = group_heartbeat.group_id AND held.token = group_heartbeat.token
                AND held.slice = ANY(slices)
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE indelible.group_slices AS owned
        SET position = greatest(owned.position, reported.position),
            due = greatest(owned.due, indelible.due_key_at(reported.due_at, reported.due_position))
        FROM unnest(slices, positions, due_times, due_positions)
            AS reported (slice, position, due_at, due_position)
        JOIN free USING (slice)
        WHERE owned.group_id = group_heartbeat.group_id
            AND owned.token = group_heartbeat.token
            AND owned.slice = reported.slice;
    END IF;
    PERFORM indelible.group_expire_workers(group_id);
    SELECT ceil(1024.0 / count(*)) INTO share
    FROM indelible.group_workers WHERE group_id = group_heartbeat.group_id;
    SELECT count(*) INTO unowned
    FROM indelible.group_slices WHERE group_id = group_heartbeat.group_id AND token IS NULL;
END
$$;
COMMENT ON FUNCTION indelible.group_heartbeat(bigint, bigint, integer, bigint, timestamptz, bigint, bigint, timestamptz, bigint, smallint[], bigint[], timestamptz[], bigint[]) IS
    'Renews a lease and records the worker''s progress. Returns how many slices are its share, and how many have no owner. Raises IND05 if the lease has expired.';

CREATE OR REPLACE FUNCTION indelible.group_fetch(
    group_id bigint,
    token bigint,
    partition_by text,
    items jsonb,
    epoch uuid,
    anchor bigint,
    anchor_id uuid,
    after bigint,
    upto bigint,
    max_count bigint
)
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
    valid_at timestamptz,
    key text,
    slice smallint,
    due_at timestamptz
)
LANGUAGE plpgsql
STABLE  -- so that the events are those of the epoch that is checked: one snapshot
-- As in append(): a page stops at its limit, and does not sort a window or hash all streams.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.check_reader_epoch(epoch, anchor, anchor_id);
    -- The token is in the condition: a worker that lost its lease reads nothing.
    RETURN QUERY
        (
            SELECT
                recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
                recorded.data, recorded.metadata, recorded.tags, recorded.channel,
                recorded.recorded_at, recorded.valid_at, keys.key, owned.slice,
                CASE
                    WHEN recorded.given_valid_at <> recorded.recorded_at
                        THEN recorded.given_valid_at
                END
            FROM indelible.recorded_unarchived AS recorded
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN partition_by IS NULL THEN recorded.stream  -- many times cheaper
                    ELSE indelible.partition_key(
                        partition_by, recorded.stream, recorded.tags, recorded.metadata
                    )
                END AS key
                OFFSET 0
            ) AS keys
            CROSS JOIN LATERAL (
                SELECT slices.slice, slices.position
                FROM indelible.group_slices AS slices
                WHERE slices.group_id = group_fetch.group_id
                    AND slices.slice = indelible.slice_of(keys.key)
                    AND slices.token = group_fetch.token
                OFFSET 0
            ) AS owned
            WHERE recorded.position > after
                AND recorded.position <= upto
                AND recorded.position > owned.position
                AND recorded.data IS NOT NULL  -- erased events are skipped
                AND (
                    items IS NULL
                    OR EXISTS (
                        SELECT
                        FROM indelible.matching_items(
                            items => items, type => recorded.type, tags => recorded.tags,
                            channel => recorded.channel, stream => recorded.stream
                        )
                    )
                )
            ORDER BY recorded.position
            LIMIT max_count
        )
        UNION ALL
        (
            SELECT
                recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
                recorded.data, recorded.metadata, recorded.tags, recorded.channel,
                recorded.recorded_at, recorded.valid_at, keys.key, owned.slice,
                CASE
                    WHEN recorded.given_valid_at <> recorded.recorded_at
                        THEN recorded.given_valid_at
                END
            FROM indelible.recorded_archived AS recorded
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN partition_by IS NULL THEN recorded.stream  -- many times cheaper
                    ELSE indelible.partition_key(
                        partition_by, recorded.stream, recorded.tags, recorded.metadata
                    )
                END AS key
                OFFSET 0
            ) AS keys
            CROSS JOIN LATERAL (
                SELECT slices.slice, slices.position
                FROM indelible.group_slices AS slices
                WHERE slices.group_id = group_fetch.group_id
                    AND slices.slice = indelible.slice_of(keys.key)
                    AND slices.token = group_fetch.token
                OFFSET 0
            ) AS owned
            WHERE recorded.position > after
                AND recorded.position <= upto
                AND recorded.position > owned.position
                AND recorded.data IS NOT NULL  -- erased events are skipped
                AND (
                    items IS NULL
                    OR EXISTS (
                        SELECT
                        FROM indelible.matching_items(
                            items => items, type => recorded.type, tags => recorded.tags,
                            channel => recorded.channel, stream => recorded.stream
                        )
                    )
                )
            ORDER BY recorded.position
            LIMIT max_count
        )
        ORDER BY position
        LIMIT max_count;
END
$$;
COMMENT ON FUNCTION indelible.group_fetch(bigint, bigint, text, jsonb, uuid, bigint, uuid, bigint, bigint, bigint) IS
    'The next events of the slices that a worker owns, with their keys and slices, in order of position. Only matching events, and none that was erased.';

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
            -- A locked row is being written by its worker, which renews the lease, or is being removed.
            SELECT live.group_id, live.token
            FROM indelible.group_workers AS live
            WHERE live.group_id = group_renew_lease.group_id
                AND live.token = group_renew_lease.token
                AND live.expires_at > clock_timestamp()
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
    'Renews a lease without ever waiting; returns whether the worker still holds it.';

CREATE OR REPLACE FUNCTION indelible.group_rebalance(
    group_id bigint,
    token bigint,
    round integer,
    slices smallint[],
    positions bigint[],
    due_times timestamptz[],
    due_positions bigint[],
    to_release smallint[],
    to_acquire integer
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
    current_round integer;
BEGIN
    PERFORM indelible.ensure_epoch();
    SELECT round INTO current_round
    FROM indelible.group_workers
    WHERE group_id = group_rebalance.group_id
        AND token = group_rebalance.token
        AND round IN (group_rebalance.round, group_rebalance.round + 1)
        AND expires_at > clock_timestamp()
    -- Not FOR UPDATE, which would wait for handlers that are about to commit: their writes lock
    -- their slices.
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM indelible.group_lease_expired(group_id, token);
    END IF;
    IF current_round = group_rebalance.round THEN
        -- The progress of each slice is saved, because the common checkpoint is about to go back to
        -- the lowest of the new slices.
        UPDATE indelible.group_slices AS owned
        SET position = greatest(owned.position, reported.position),
            due = greatest(owned.due, indelible.due_key_at(reported.due_at, reported.due_position)),
            token = CASE WHEN owned.slice = ANY(to_release) THEN NULL ELSE owned.token END
        FROM unnest(slices, positions, due_times, due_positions)
            AS reported (slice, position, due_at, due_position)
        WHERE owned.group_id = group_rebalance.group_id
            AND owned.token = group_rebalance.token
            AND owned.slice = reported.slice
            -- Not the others: a handler that is about to commit locks the row of its slice.
            AND (
                owned.slice = ANY(to_release)
                OR reported.position > owned.position
                OR greatest(owned.due, indelible.due_key_at(reported.due_at, reported.due_position))
                    IS DISTINCT FROM owned.due
            );
        UPDATE indelible.group_slices AS taken
        SET token = group_rebalance.token
        WHERE taken.group_id = group_rebalance.group_id AND taken.slice IN (
            SELECT free.slice
            FROM indelible.group_slices AS free
            WHERE free.group_id = group_rebalance.group_id AND free.token IS NULL
                AND NOT free.slice = ANY(to_release)
            ORDER BY free.slice
            LIMIT to_acquire
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
    END IF; -- otherwise it is the same call again, after its answer was lost
    RETURN QUERY
        SELECT owned.slice, owned.position, owned.due, owned.suspect, owned.suspect_due
        FROM indelible.group_slices AS owned
        WHERE owned.group_id = group_rebalance.group_id AND owned.token = group_rebalance.token;
END
$$;
COMMENT ON FUNCTION indelible.group_rebalance(bigint, bigint, integer, smallint[], bigint[], timestamptz[], bigint[], smallint[], integer) IS
    'Saves the progress of a worker''s slices, releases some, acquires some that have no owner, and returns all that it owns then. The same call again returns the same. Raises IND05 if the lease has expired.';

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
        RETURN; -- it has left, or its lease has expired
    END IF;
    -- Also slices that it acquired without getting the answer: these keep their progress.
    UPDATE indelible.group_slices AS owned
    SET token = NULL,
        position = greatest(owned.position, reported.position),
        due = greatest(owned.due, indelible.due_key_at(reported.due_at, reported.due_position))
    FROM (
        SELECT held.slice, saved.position, saved.due_at, saved.due_position
        FROM indelible.group_slices AS held
        LEFT JOIN unnest(slices, positions, due_times, due_positions)
            AS saved (slice, position, due_at, due_position) USING (slice)
        WHERE held.group_id = group_leave.group_id AND held.token = group_leave.token
    ) AS reported
    WHERE owned.group_id = group_leave.group_id
        AND owned.token = group_leave.token
        AND owned.slice = reported.slice;
    DELETE FROM indelible.group_workers
    WHERE group_id = group_leave.group_id
        AND token = group_leave.token;
END
$$;
COMMENT ON FUNCTION indelible.group_leave(bigint, bigint, smallint[], bigint[], timestamptz[], bigint[]) IS
    'Saves the progress of all slices, releases them, and ends the lease.';

-- The events of a slice are delivered in order: when one is finished, or gets a row, those before it
-- are finished or have rows. The same transaction saves that progress, so that after a crash none of
-- them is delivered again. So an event with a row was delivered before any event without one, and
-- the numbers of a key's rows are the order of delivery.
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
    'Saves up to where the events of a slice are finished; nulls change nothing. The caller locks the slice.';

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
    progress record;
BEGIN
    PERFORM indelible.group_fence(group_id, token);
    -- First the lock, then the check, in a later statement: the handler may be about to finish the
    -- event in a transaction whose connection it lost.
    SELECT position, due INTO progress
    FROM indelible.group_slices
    WHERE group_id = group_lock_event.group_id
        AND slice = group_lock_event.slice
        AND token = group_lock_event.token
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the event at position % now belongs to another worker', position
        USING ERRCODE = 'IND05';
    END IF;
    RETURN EXISTS (
        SELECT FROM indelible.group_events
        WHERE group_id = group_lock_event.group_id AND position = group_lock_event.position
    ) OR NOT is_tracked AND (
        progress.position >= group_lock_event.position
        AND (
            due_at IS NULL OR progress.due >= indelible.due_key_at(due_at, group_lock_event.position)
        )
    ) IS NOT TRUE;
END
$$;
COMMENT ON FUNCTION indelible.group_lock_event(bigint, bigint, bigint, smallint, boolean, timestamptz) IS
    'Locks a worker''s lease and the slice of an event until the transaction ends; false if the event is finished. Raises IND05 if the worker has lost either.';

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
    INSERT INTO indelible.group_events AS tracked
        (group_id, position, slice, key, state, attempts, not_before)
    VALUES (group_id, position, slice, key, 'in_progress', attempt, clock_timestamp())
    ON CONFLICT ON CONSTRAINT group_events_pkey DO UPDATE
    SET state = 'in_progress', attempts = excluded.attempts, updated_at = clock_timestamp()
    -- Otherwise it is the same call again, after its answer was lost.
    WHERE tracked.attempts < excluded.attempts;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_record_attempt(bigint, bigint, bigint, smallint, text, boolean, integer, timestamptz, bigint, timestamptz, bigint) IS
    'Counts an attempt before the handler gets the event, so that an event that kills its worker is detected; false if the event is finished.';

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
    reason text,
    error text,
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
    -- An erasure locks the stream's row, then deletes what is recorded about its events: either that
    -- has happened, or it waits for this transaction and then finds the row. The text of an error
    -- may repeat erased data.
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
        clock_timestamp() + make_interval(secs => delay), reason, error
    )
    ON CONFLICT ON CONSTRAINT group_events_pkey DO UPDATE
    SET state = excluded.state, attempts = excluded.attempts, not_before = excluded.not_before,
        reason = excluded.reason, error = excluded.error, updated_at = clock_timestamp();
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_record_failure(bigint, bigint, bigint, smallint, text, boolean, text, integer, double precision, text, text, timestamptz, bigint, timestamptz, bigint) IS
    'Records that an event is to be retried, or is parked; false if it is finished after all, or erased.';

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
    'Queues an event behind an earlier one of its key; false if there is no such event any more. True if it is finished: nothing is left to do.';

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
    WHERE group_id = group_ack.group_id AND position = group_ack.position AND state = 'in_progress';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the event at position % is not in progress', position
        USING ERRCODE = 'IND05';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_ack(bigint, bigint, bigint, smallint, boolean, timestamptz, bigint, timestamptz, bigint) IS
    'Finishes one event in the transaction of the caller. False if it was finished before.';

CREATE OR REPLACE FUNCTION indelible.group_replay(group_name text, "position" bigint, key text)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH replayed AS (
        UPDATE indelible.group_events AS tracked
        SET state = 'retry', attempts = 0, not_before = clock_timestamp(),
            reason = 'replayed by an operator', updated_at = clock_timestamp()
        FROM indelible.groups
        WHERE groups.name = group_name AND tracked.group_id = groups.id AND tracked.state = 'parked'
            AND coalesce(tracked.position = group_replay.position, true)
            AND coalesce(tracked.key = group_replay.key, true)
        RETURNING tracked.position
    )
    SELECT count(*) FROM replayed
$$;
COMMENT ON FUNCTION indelible.group_replay(text, bigint, text) IS
    'Has parked events retried: one, those of a key, or (both null) all. Returns how many.';

CREATE OR REPLACE FUNCTION indelible.group_discard(group_name text, "position" bigint, key text)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH discarded AS (
        DELETE FROM indelible.group_events AS tracked
        USING indelible.groups
        WHERE groups.name = group_name AND tracked.group_id = groups.id AND tracked.state = 'parked'
            AND coalesce(tracked.position = group_discard.position, true)
            AND coalesce(tracked.key = group_discard.key, true)
        RETURNING tracked.position
    )
    SELECT count(*) FROM discarded
$$;
COMMENT ON FUNCTION indelible.group_discard(text, bigint, text) IS
    'Discards parked events: one, those of a key, or (both null) all. Returns how many.';

CREATE OR REPLACE FUNCTION indelible.group_first_pending(group_id bigint, park_blocks_stream boolean)
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
    -- From key to key by the index: thousands of events may be queued behind each.
    WITH RECURSIVE first_pending AS (
        (
            SELECT tracked.key, tracked.position, tracked.slice, tracked.state, tracked.attempts,
                tracked.not_before
            FROM indelible.group_events AS tracked
            WHERE tracked.group_id = group_first_pending.group_id
                AND (park_blocks_stream OR tracked.state <> 'parked')
            ORDER BY tracked.key, tracked.number
            LIMIT 1
        )
        UNION ALL
        SELECT later.*
        FROM first_pending
        CROSS JOIN LATERAL (
            SELECT tracked.key, tracked.position, tracked.slice, tracked.state, tracked.attempts,
                tracked.not_before
            FROM indelible.group_events AS tracked
            WHERE tracked.group_id = group_first_pending.group_id AND tracked.key > first_pending.key
                AND (park_blocks_stream OR tracked.state <> 'parked')
            ORDER BY tracked.key, tracked.number
            LIMIT 1
        ) AS later
    )
    SELECT first_pending.* FROM first_pending
$$;
COMMENT ON FUNCTION indelible.group_first_pending(bigint, boolean) IS
    'The first event of each key in group_events: later events of the key wait for it. Parked events are left out if they do not block their stream.';

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
    'Up to where each slice of a group is finished, except for events with a row in group_events.';

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
    SELECT min((progress.due).due_at) INTO lowest
    FROM indelible.group_slice_progress(group_id) AS progress;
    RETURN QUERY
        SELECT recorded.position, recorded.given_valid_at
        FROM indelible.groups
        CROSS JOIN indelible.recorded_events AS recorded
        JOIN indelible.group_slice_progress(group_overdue_events.group_id) AS progress
            ON progress.slice = indelible.slice_of(
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
            AND recorded.position <= progress.position
            AND indelible.due_key_at(recorded.given_valid_at, recorded.position) > progress.due
            AND NOT EXISTS (
                SELECT FROM indelible.group_events AS tracked
                WHERE tracked.group_id = group_overdue_events.group_id
                    AND tracked.position = recorded.position
            )
            AND (
                groups.query IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => groups.query, type => recorded.type, tags => recorded.tags,
                        channel => recorded.channel, stream => recorded.stream
                    )
                )
            );
END
$$;
COMMENT ON FUNCTION indelible.group_overdue_events(bigint) IS
    'The events of a group with deliver_when_valid that were not due when it read past them, are due now, and are not finished; and since when they are due.';

CREATE OR REPLACE FUNCTION indelible.group_checkpoint(group_id bigint)
RETURNS bigint
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(
        (
            SELECT min(progress.position)
            FROM indelible.group_slice_progress(group_checkpoint.group_id) AS progress
        ),
        (
            -- Without parked events and those that wait behind them. The first event of a key need
            -- not have the lowest position if events are delivered by valid time.
            SELECT min(lowest.position) - 1
            FROM indelible.groups
            CROSS JOIN LATERAL indelible.group_first_pending(groups.id, groups.park_blocks_stream) AS first_pending
            CROSS JOIN LATERAL (
                SELECT waiting.position
                FROM indelible.group_events AS waiting
                WHERE waiting.group_id = group_checkpoint.group_id AND waiting.key = first_pending.key
                    AND waiting.state <> 'parked'
                ORDER BY waiting.position
                LIMIT 1
            ) AS lowest
            WHERE groups.id = group_checkpoint.group_id AND first_pending.state <> 'parked'
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
    'The position below the lowest event that is due and not finished. Events in flight and those to be retried count as not finished; parked events do not.';

-- Leases of the clients of a server (docs/explanation/leases.md). All statements lock in one order: the
-- worker's row, the row of the lease, the rows of slices.

CREATE OR REPLACE FUNCTION indelible.group_lend(
    lease_id uuid,
    group_id bigint,
    token bigint,
    client text,
    events jsonb,
    seconds double precision
)
RETURNS timestamptz
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.group_fence(group_id, token);
    INSERT INTO indelible.group_leases (id, group_id, token, client, events, expires_at)
    VALUES (
        lease_id, group_id, token, client, events, clock_timestamp() + make_interval(secs => seconds)
    )
    -- Otherwise it is the same call again, after its answer was lost.
    ON CONFLICT ON CONSTRAINT group_leases_pkey DO NOTHING;
    RETURN (SELECT leases.expires_at FROM indelible.group_leases AS leases WHERE leases.id = lease_id);
END
$$;
COMMENT ON FUNCTION indelible.group_lend(uuid, bigint, bigint, text, jsonb, double precision) IS
    'Lends events of a worker to a client for some seconds. Returns when the lease expires.';

CREATE OR REPLACE FUNCTION indelible.group_lock_lease(lease_id uuid)
RETURNS indelible.group_leases
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    lease indelible.group_leases;
BEGIN
    SELECT * INTO lease FROM indelible.group_leases WHERE id = lease_id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM indelible.group_fence(lease.group_id, lease.token);
    SELECT * INTO lease
    FROM indelible.group_leases
    WHERE id = lease_id AND expires_at > clock_timestamp()
    FOR NO KEY UPDATE;
    RETURN lease;
END
$$;
COMMENT ON FUNCTION indelible.group_lock_lease(uuid) IS
    'Locks a lease, and that of its worker, until the transaction ends. Null if it is over. Raises IND05 if the worker has lost its events.';

CREATE OR REPLACE FUNCTION indelible.group_settle_lease(lease_id uuid, outcomes jsonb)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
DECLARE
    lease constant indelible.group_leases := indelible.group_lock_lease(lease_id);
    lent record;
BEGIN
    IF lease.id IS NULL THEN
        RETURN NULL;
    END IF;
    IF EXISTS (
        SELECT FROM jsonb_to_recordset(outcomes) AS outcome ("position" bigint)
        WHERE outcome.position = ANY(lease.finished || lease.failed)
    ) THEN
        RETURN false;
    END IF;
    FOR lent IN
        SELECT *
        FROM jsonb_to_recordset(lease.events) AS event (
            "position" bigint, slice smallint, key text, is_tracked boolean, due_at timestamptz,
            upto bigint, upto_due_at timestamptz, upto_due_position bigint
        )
        JOIN jsonb_to_recordset(outcomes) AS outcome (
            "position" bigint, state text, attempts integer, delay double precision, reason text,
            error text
        ) USING ("position")
        ORDER BY event.position
    LOOP
        -- Also at the process that owns the event: what is answered is stored.
        IF lent.state = 'finished' THEN
            PERFORM indelible.group_ack(
                group_id => lease.group_id, token => lease.token, "position" => lent.position,
                slice => lent.slice, is_tracked => lent.is_tracked, due_at => lent.due_at,
                upto => lent.upto, upto_due_at => lent.upto_due_at,
                upto_due_position => lent.upto_due_position
            );
        ELSE
            PERFORM indelible.group_record_failure(
                group_id => lease.group_id, token => lease.token, "position" => lent.position,
                slice => lent.slice, key => lent.key, is_tracked => lent.is_tracked,
                state => lent.state, attempts => lent.attempts, delay => lent.delay,
                reason => lent.reason, error => lent.error, due_at => lent.due_at,
                upto => lent.upto, upto_due_at => lent.upto_due_at,
                upto_due_position => lent.upto_due_position
            );
        END IF;
    END LOOP;
    UPDATE indelible.group_leases AS settled
    SET finished = settled.finished || ARRAY(
            SELECT outcome.position
            FROM jsonb_to_recordset(outcomes) AS outcome ("position" bigint, state text)
            WHERE outcome.state = 'finished'
        ),
        failed = settled.failed || ARRAY(
            SELECT outcome.position
            FROM jsonb_to_recordset(outcomes) AS outcome ("position" bigint, state text)
            WHERE outcome.state <> 'finished'
        )
    WHERE settled.id = lease_id;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.group_settle_lease(uuid, jsonb) IS
    'Records outcomes of lent events, all or none: finished, retry or parked. False if one of them has an outcome already; null if the lease is over. Raises IND05 if the worker has lost its events.';

CREATE OR REPLACE FUNCTION indelible.group_extend_lease(lease_id uuid, seconds double precision)
RETURNS timestamptz
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
DECLARE
    lease constant indelible.group_leases := indelible.group_lock_lease(lease_id);
    expiry constant timestamptz := clock_timestamp() + make_interval(secs => seconds);
BEGIN
    UPDATE indelible.group_leases SET expires_at = expiry WHERE id = lease.id;
    RETURN CASE WHEN lease.id IS NOT NULL THEN expiry END;
END
$$;
COMMENT ON FUNCTION indelible.group_extend_lease(uuid, double precision) IS
    'Has a lease expire some seconds from now. Returns when; null if it is over. Raises IND05 if the worker has lost its events.';

CREATE OR REPLACE FUNCTION indelible.group_end_leases(
    group_id bigint, token bigint, ended uuid[], is_early boolean, done uuid[]
)
RETURNS TABLE (id uuid, finished bigint[], failed bigint[])
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.group_fence(group_id, token);
    DELETE FROM indelible.group_leases AS leases
    WHERE leases.id = ANY(done)
        AND leases.group_id = group_end_leases.group_id AND leases.token = group_end_leases.token;
    -- It waits for a call that is recording outcomes, and then sees them. The mark outlives a clock
    -- that is set back. The worker deletes the row once it knows the answer.
    RETURN QUERY
        UPDATE indelible.group_leases AS leases
        SET expires_at = '-infinity'
        WHERE leases.id = ANY(ended) AND (is_early OR leases.expires_at <= clock_timestamp())
            AND leases.group_id = group_end_leases.group_id
            AND leases.token = group_end_leases.token
        RETURNING leases.id, leases.finished, leases.failed;
END
$$;
COMMENT ON FUNCTION indelible.group_end_leases(bigint, bigint, uuid[], boolean, uuid[]) IS
    'Ends leases that have expired, or all the given ones if it is early, and returns their outcomes: none is added any more. Deletes the leases that are done.';
