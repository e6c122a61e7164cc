-- The daemon: which process keeps which partition of which projection up to date, what it does at
-- errors, and how a build takes the place of another.

CREATE TABLE indelible.projection_workers (
    name text COLLATE "C" NOT NULL,
    projections bigint[] NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT projection_workers_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE indelible.projection_workers IS
    'The processes that keep projections up to date: what each could do, so that the work is dealt out evenly.';
COMMENT ON COLUMN indelible.projection_workers.name IS
    'Host, process and a random part: the owner of the partitions that it holds.';
COMMENT ON COLUMN indelible.projection_workers.projections IS
    'The builds that it has the code for: projections.id.';
COMMENT ON COLUMN indelible.projection_workers.expires_at IS
    'When it is taken for dead.';

ALTER TABLE indelible.projection_partitions
ADD COLUMN events_per_second double precision NOT NULL DEFAULT 0,
ADD COLUMN rated_handled bigint NOT NULL DEFAULT 0,
ADD COLUMN rated_at timestamptz;
COMMENT ON COLUMN indelible.projection_partitions.events_per_second IS
    'How many events it took in per second between the last two signs of life of its owner.';
COMMENT ON COLUMN indelible.projection_partitions.rated_handled IS
    'How many events it had taken in at the last of them.';
COMMENT ON COLUMN indelible.projection_partitions.rated_at IS 'When that was.';

ALTER TABLE indelible.projection_parked
ADD COLUMN discarded_at timestamptz;
COMMENT ON COLUMN indelible.projection_parked.discarded_at IS
    'When an operator gave it up. The row stays: it tells why the state is not what all events say.';

CREATE FUNCTION indelible.last_position()
RETURNS bigint
LANGUAGE sql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT last_value FROM indelible.events_position
$$;
COMMENT ON FUNCTION indelible.last_position() IS 'The last position handed out.';

ALTER TABLE indelible.projections
ADD COLUMN live_after bigint NOT NULL DEFAULT indelible.last_position();
COMMENT ON COLUMN indelible.projections.live_after IS
    'Events above this position are new to its readers: on_live is called for them.';


-- Who does what ---------------------------------------------------------------------------------

CREATE FUNCTION indelible.projection_worker_beat(
    of_worker text,
    can_run bigint[],
    lease double precision,
    held_projections bigint[],
    held_partitions smallint[]
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM indelible.check_epoch();
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO indelible.projection_workers (name, projections, expires_at)
    VALUES (of_worker, can_run, clock_timestamp() + make_interval(secs => lease))
    ON CONFLICT ON CONSTRAINT projection_workers_pkey DO UPDATE
    SET projections = excluded.projections, expires_at = excluded.expires_at;
    DELETE FROM indelible.projection_workers
    WHERE name IN (
        SELECT dead.name
        FROM indelible.projection_workers AS dead
        WHERE dead.expires_at < clock_timestamp()
        FOR UPDATE SKIP LOCKED
    );
    UPDATE indelible.projection_partitions AS part
    SET expires_at = clock_timestamp() + make_interval(secs => part.lease_seconds),
        events_per_second = CASE
            WHEN part.rated_at IS NULL THEN 0
            ELSE (part.handled - part.rated_handled)
                / greatest(extract(epoch FROM clock_timestamp() - part.rated_at), 0.001)
        END,
        rated_handled = part.handled,
        rated_at = clock_timestamp()
    WHERE (part.projection_id, part.partition) IN (
        -- One that is locked is at a commit, which renews its lease; the others do not wait for it.
        SELECT held.projection_id, held.partition
        FROM unnest(held_projections, held_partitions) AS given (projection_id, partition)
        JOIN indelible.projection_partitions AS held
            ON held.projection_id = given.projection_id AND held.partition = given.partition
        WHERE held.owner = of_worker
        FOR NO KEY UPDATE OF held SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_worker_beat(text, bigint[], double precision, bigint[], smallint[]) IS
    'A sign of life of a process, for itself and for the partitions that it holds; the dead are cleared away.';

CREATE FUNCTION indelible.projection_worker_renew_lease(
    of_worker text,
    lease double precision,
    held_projections bigint[],
    held_partitions smallint[]
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_workers AS worker
    SET expires_at = clock_timestamp() + make_interval(secs => lease)
    WHERE worker.name IN (
        SELECT alive.name FROM indelible.projection_workers AS alive
        WHERE alive.name = of_worker
        FOR NO KEY UPDATE SKIP LOCKED
    );
    UPDATE indelible.projection_partitions AS part
    SET expires_at = clock_timestamp() + make_interval(secs => part.lease_seconds)
    WHERE (part.projection_id, part.partition) IN (
        SELECT held.projection_id, held.partition
        FROM unnest(held_projections, held_partitions) AS given (projection_id, partition)
        JOIN indelible.projection_partitions AS held
            ON held.projection_id = given.projection_id AND held.partition = given.partition
        WHERE held.owner = of_worker
        FOR NO KEY UPDATE OF held SKIP LOCKED
    );
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_worker_renew_lease(text, double precision, bigint[], smallint[]) IS
    'Renews the leases of a process and of the partitions that it holds, and does nothing else: one that has left does not come back.';

CREATE FUNCTION indelible.projection_worker_leave(of_worker text)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM indelible.projection_workers WHERE name = of_worker
$$;
COMMENT ON FUNCTION indelible.projection_worker_leave(text) IS
    'A process ends, having given back what it held.';


-- What goes wrong -------------------------------------------------------------------------------

CREATE FUNCTION indelible.text_unless_erased(why text, at_position bigint)
RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
    -- Whoever erases a stream holds its row, then the texts that are noted of its events: either
    -- that has happened, or it waits for this and then finds the text.
    PERFORM FROM indelible.streams
    WHERE id = (SELECT stream_id FROM indelible.recorded_events WHERE position = at_position)
    FOR KEY SHARE;
    RETURN CASE
        WHEN EXISTS (
            SELECT FROM indelible.recorded_events WHERE position = at_position AND data IS NULL
        )
        THEN 'the event was erased'
        ELSE why
    END;
END
$$;
COMMENT ON FUNCTION indelible.text_unless_erased(text, bigint) IS
    'The text of an error at an event, which may repeat what the event held; another one where that was erased. Keeps erasures waiting until the transaction ends.';

CREATE FUNCTION indelible.projection_fail(
    of_projection bigint,
    in_partition smallint,
    of_token bigint,
    why text,
    at_position bigint,
    made_attempts integer,
    wait double precision,
    is_final boolean
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- First, as an erasure does: the stream before the partition.
    told constant text := indelible.text_unless_erased(why, at_position);
BEGIN
    UPDATE indelible.projection_partitions
    SET attempts = made_attempts, not_before = clock_timestamp() + make_interval(secs => wait),
        is_stopped = is_final, error = told, error_position = at_position,
        updated_at = clock_timestamp()
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
        AND position < coalesce(at_position, position + 1);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', of_token
        USING ERRCODE = 'IND05';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.projection_fail(bigint, smallint, bigint, text, bigint, integer, double precision, boolean) IS
    'Notes that a batch failed so many times: tried again after some seconds, or stopped. Raises IND05 where others have taken over, or the event is taken in after all.';

CREATE FUNCTION indelible.projection_park(
    of_projection bigint, in_partition smallint, of_token bigint, why text, at_position bigint
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told constant text := indelible.text_unless_erased(why, at_position);
BEGIN
    UPDATE indelible.projection_partitions
    SET attempts = 0, not_before = '-infinity', error = NULL, error_position = NULL,
        updated_at = clock_timestamp()
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
        AND position < at_position;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', of_token
        USING ERRCODE = 'IND05';
    END IF;
    INSERT INTO indelible.projection_parked (projection_id, position, partition, error)
    VALUES (of_projection, at_position, in_partition, told)
    ON CONFLICT ON CONSTRAINT projection_parked_pkey DO UPDATE SET error = excluded.error;
END
$$;
COMMENT ON FUNCTION indelible.projection_park(bigint, smallint, bigint, text, bigint) IS
    'Leaves an event out from now on. Raises IND05 where others have taken over, or the event is taken in after all.';

CREATE FUNCTION indelible.projection_restart(of_name text)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH restarted AS (
        UPDATE indelible.projection_partitions AS part
        SET is_stopped = false, attempts = 0, not_before = '-infinity',
            updated_at = clock_timestamp()
        FROM indelible.projections AS known
        WHERE part.projection_id = known.id AND known.name = of_name AND part.is_stopped
        RETURNING part.partition
    )
    SELECT count(*) FROM restarted
$$;
COMMENT ON FUNCTION indelible.projection_restart(text) IS
    'Lets what is stopped be tried again; how many partitions.';

CREATE FUNCTION indelible.projection_discard(of_name text, at_position bigint)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH discarded AS (
        UPDATE indelible.projection_parked AS parked
        SET discarded_at = clock_timestamp()
        FROM indelible.projections AS known
        WHERE parked.projection_id = known.id AND known.name = of_name
            AND parked.discarded_at IS NULL
            AND (at_position IS NULL OR parked.position = at_position)
        RETURNING parked.position
    )
    SELECT count(DISTINCT position) FROM discarded
$$;
COMMENT ON FUNCTION indelible.projection_discard(text, bigint) IS
    'Gives up what was left out: one event, or all; how many.';


-- Built anew ------------------------------------------------------------------------------------

CREATE FUNCTION indelible.projection_rebuild(of_name text, of_version integer)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found bigint;
    served indelible.projections;
BEGIN
    -- Not the lock of appends, behind which they would queue up.
    PERFORM indelible.projection_lock(of_name, indelible.projection_begin_key(of_name), 20);
    SELECT id INTO found
    FROM indelible.projections
    WHERE name = of_name AND version = of_version AND state = 'building';
    IF found IS NOT NULL THEN
        UPDATE indelible.projection_partitions
        SET is_stopped = false, attempts = 0, not_before = '-infinity'
        WHERE projection_id = found AND is_stopped;
        RETURN found;
    END IF;
    SELECT * INTO STRICT served
    FROM indelible.projections
    WHERE name = of_name AND version = of_version AND state = 'serving';
    RETURN indelible.projection_begin(
        of_name, of_version, served.kind, served.lifecycle, 'building', served.query,
        served.partitions, served.indexes
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_rebuild(text, integer) IS
    'Begins a build beside the one that serves, or lets the one that was begun before go on.';

CREATE FUNCTION indelible.projection_seize(of_projection bigint)
RETURNS TABLE (partition smallint, token bigint, "position" bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Appends that bring the projection up to date hold this lock shared until they have
    -- committed: what they stored is visible to the statements after this one, and the next wait.
    PERFORM indelible.projection_lock(known.name, indelible.projection_key(known.name), 1)
    FROM indelible.projections AS known
    WHERE known.id = of_projection;
    -- They are not to wait for a process that is stopped in the middle.
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    RETURN QUERY
        UPDATE indelible.projection_partitions AS part
        SET token = part.token + 1, owner = NULL, expires_at = '-infinity'
        FROM indelible.projections AS known
        WHERE known.id = of_projection AND known.state = 'building'
            AND part.projection_id = known.id
        RETURNING part.partition, part.token, part.position;
END
$$;
COMMENT ON FUNCTION indelible.projection_seize(bigint) IS
    'Holds up appends to an inline projection, and takes all partitions of a build, for the transaction in which it is to serve.';

CREATE FUNCTION indelible.projection_serve(of_projection bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Whoever calls this gives signs of life by the same thread: it is not to be held up for long.
SET lock_timeout = '200ms'
AS $$
DECLARE
    built indelible.projections;
    old_one bigint;
    target bigint;
BEGIN
    BEGIN
        PERFORM indelible.projection_lock(name, indelible.projection_key(name), 1)
        FROM indelible.projections
        WHERE id = of_projection;
        SELECT * INTO built FROM indelible.projections WHERE id = of_projection FOR NO KEY UPDATE;
        IF built.state = 'building' AND built.lifecycle = 'async' THEN
            SELECT id INTO old_one
            FROM indelible.projections
            WHERE name = built.name AND state = 'serving'
            -- The one whose place it takes; for a new version the newest, which readers have now.
            ORDER BY version = built.version DESC, version DESC
            LIMIT 1
            FOR NO KEY UPDATE;
            PERFORM FROM indelible.projection_partitions
            WHERE projection_id = old_one
            ORDER BY partition
            FOR UPDATE;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    IF built.state IS DISTINCT FROM 'building' THEN
        RETURN coalesce(built.state = 'serving', false);
    END IF;
    IF built.lifecycle = 'async' THEN
        -- A reader that has seen what the one before says must not see less after it: that one
        -- stands still now, until this one is as far.
        SELECT min(position) INTO target
        FROM indelible.projection_partitions
        WHERE projection_id = old_one;
        FOR attempt IN 1..20 LOOP
            IF (
                SELECT min(position) >= coalesce(target, 0)
                FROM indelible.projection_partitions
                WHERE projection_id = of_projection
            ) THEN
                target := NULL;
                EXIT;
            END IF;
            PERFORM pg_sleep(0.01);
        END LOOP;
        IF target IS NOT NULL THEN
            RETURN false;
        END IF;
    END IF;
    UPDATE indelible.projections
    SET state = 'retired', retired_at = clock_timestamp()
    WHERE name = built.name AND version = built.version AND state = 'serving';
    UPDATE indelible.projections
    SET state = 'serving', served_at = clock_timestamp(),
        live_after = (
            SELECT max(position)
            FROM indelible.projection_partitions
            WHERE projection_id = of_projection
        )
    WHERE id = of_projection;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_serve(bigint) IS
    'Has a build serve in the place of the one before, once it is as far; whether it does.';

CREATE FUNCTION indelible.projection_retire(of_name text, of_version integer)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retired bigint;
BEGIN
    PERFORM indelible.projection_lock(of_name, indelible.projection_key(of_name), 10);
    UPDATE indelible.projections
    SET state = 'retired', retired_at = clock_timestamp()
    WHERE name = of_name AND version = of_version AND state <> 'retired';
    GET DIAGNOSTICS retired = ROW_COUNT;
    RETURN retired;
END
$$;
COMMENT ON FUNCTION indelible.projection_retire(text, integer) IS
    'Ends a version of a projection; how many builds that were.';

CREATE FUNCTION indelible.projection_sweep()
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Readers of other projections wait behind this one while it waits for its turn.
SET lock_timeout = '10ms'
AS $$
DECLARE
    gone indelible.projections;
BEGIN
    -- One at a time: a table that is being dropped still has its name for others who would drop it,
    -- and no longer its parent, which PostgreSQL takes for a fault.
    FOR gone IN
        SELECT * FROM indelible.projections WHERE state = 'retired' FOR UPDATE SKIP LOCKED
    LOOP
        BEGIN
            IF gone.kind = 'documents' THEN
                EXECUTE format('DROP TABLE IF EXISTS indelible.%I', 'documents_' || gone.id);
            END IF;
            DELETE FROM indelible.projections WHERE id = gone.id;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;  -- somebody reads it
        END;
    END LOOP;
    RETURN (SELECT count(*) FROM indelible.projections WHERE state = 'retired');
END
$$;
COMMENT ON FUNCTION indelible.projection_sweep() IS
    'Drops what retired builds have left; how many of them are kept, since somebody is still at it.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
