-- Epochs: the histories of the log (docs/explanation/what-happens-when.md).

CREATE OR REPLACE FUNCTION indelible.log_identity(
    OUT timeline integer,
    OUT system_identifier bigint,
    OUT database_oid oid,
    OUT events_oid oid
)
LANGUAGE plpgsql
STABLE
AS $$
BEGIN
    -- A file path contains the oid of its database. Reading the catalog of databases would lock it.
    database_oid := split_part(pg_relation_filepath('indelible.events'), '/', -2);
    events_oid := 'indelible.events'::regclass;
    BEGIN
        timeline := ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer;
        system_identifier := (SELECT control.system_identifier FROM pg_control_system() AS control);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        -- Some managed services do not report it. Then only the ids of events distinguish
        -- histories.
        NULL;
    END;
END
$$;
COMMENT ON FUNCTION indelible.log_identity() IS
    'The values that distinguish this copy of the log from other copies.';

INSERT INTO indelible.epochs (
    number, last_position, safe_through, timeline, system_identifier, database_oid, events_oid
)
SELECT 1, 0, 0, today.timeline, today.system_identifier, today.database_oid, today.events_oid
FROM indelible.log_identity() AS today
WHERE NOT EXISTS (SELECT FROM indelible.epochs);

CREATE OR REPLACE FUNCTION indelible.is_same_log(recorded indelible.epochs)
RETURNS boolean
LANGUAGE sql
STABLE
AS $$
    -- A value that is missing on either side proves nothing.
    SELECT coalesce(recorded.timeline = today.timeline, true)
        AND coalesce(recorded.system_identifier = today.system_identifier, true)
        AND coalesce(recorded.database_oid = today.database_oid, true)
        AND coalesce(recorded.events_oid = today.events_oid, true)
    FROM indelible.log_identity() AS today
$$;
COMMENT ON FUNCTION indelible.is_same_log(indelible.epochs) IS
    'Whether an epoch belongs to this copy of the log.';

CREATE OR REPLACE FUNCTION indelible.begin_epoch(by_operator boolean)
RETURNS uuid
LANGUAGE plpgsql
-- A concurrent session waits for the one that begins the epoch, but not without a limit.
SET lock_timeout = '5s'
AS $$
DECLARE
    latest indelible.epochs;
    is_same boolean;
    new_epoch uuid;
    safe_position bigint;
    behind record;
BEGIN
    LOCK TABLE indelible.epochs IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO latest FROM indelible.epochs ORDER BY number DESC LIMIT 1;
    is_same := indelible.is_same_log(latest);
    IF is_same AND latest.server_started_at = pg_postmaster_start_time() AND NOT by_operator THEN
        RETURN latest.epoch;  -- another session was first
    END IF;
    -- The state of workers in memory may belong to another history, also if only a disk was copied
    -- back. So they start again from their rows whenever the server is not the one that granted
    -- their leases. In a strict transaction, whose snapshot may be older than a concurrent new
    -- epoch, the server rejects this.
    UPDATE indelible.epochs
    SET server_started_at = pg_postmaster_start_time()
    WHERE number = latest.number;
    UPDATE indelible.groups SET ended_token = last_token WHERE ended_token < last_token;
    UPDATE indelible.group_workers SET expires_at = '-infinity' WHERE expires_at > '-infinity';
    UPDATE indelible.projection_partitions
    SET token = token + 1, owner = NULL, expires_at = '-infinity'
    WHERE owner IS NOT NULL;
    -- If the clock of this server is behind, no retry waits longer than its delay.
    UPDATE indelible.group_events
    SET not_before = clock_timestamp() + greatest(not_before - updated_at, interval '0'),
        updated_at = clock_timestamp()
    WHERE updated_at > clock_timestamp();
    UPDATE indelible.projection_partitions
    SET not_before = clock_timestamp() + greatest(not_before - updated_at, interval '0'),
        updated_at = clock_timestamp()
    WHERE updated_at > clock_timestamp() AND not_before > '-infinity';
    IF is_same AND NOT by_operator THEN
        RETURN latest.epoch;
    END IF;
    -- Logical replication does not copy sequences. No value is taken from them before this.
    LOOP
        behind := indelible.store_problem('indelible.events');
        EXIT WHEN behind.problem IS DISTINCT FROM 'sequence behind';
        PERFORM setval(behind.subject::regclass, behind.number);
    END LOOP;
    INSERT INTO indelible.epochs (
        number, last_position, safe_through, timeline, system_identifier, database_oid, events_oid
    )
    SELECT
        latest.number + 1,
        coalesce(pg_sequence_last_value('indelible.events_position'), 0),
        -- The previous history wrote the row, and this copy has all events up to its position. If
        -- an operator restored the store, it is not known which history wrote the row.
        CASE WHEN by_operator THEN 0 ELSE coalesce((SELECT position FROM indelible.settled), 0)
        END,
        today.timeline,
        today.system_identifier,
        today.database_oid,
        today.events_oid
    FROM indelible.log_identity() AS today
    RETURNING epoch, safe_through INTO new_epoch, safe_position;
    -- Readers write these rows again, from the events of this log. First wait for sessions that are
    -- writing some: their rows would stay, with a gap below them that no reader fills.
    PERFORM pg_advisory_xact_lock(indelible.store_lock_key() << 48 | 1::bigint << 47);
    PERFORM pg_advisory_xact_lock(indelible.store_lock_key() << 48 | 1::bigint << 47 | 1::bigint);
    DELETE FROM indelible.recorded_time_index WHERE position > safe_position;
    DELETE FROM indelible.log_windows WHERE position > safe_position;
    DELETE FROM indelible.log_window_contents WHERE position > safe_position;
    RETURN new_epoch;
END
$$;
COMMENT ON FUNCTION indelible.begin_epoch(boolean) IS
    'Begins an epoch, unless the last one belongs to this copy of the log. For an operator it always begins one. All leases end, also if the server was only restarted.';

CREATE OR REPLACE FUNCTION indelible.is_current_epoch()
RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    -- A session cannot outlive a change of its server, so it checks once.
    setting constant text := 'indelible_epoch.known_' || indelible.store_lock_key();
    latest indelible.epochs;
BEGIN
    IF current_setting(setting, true) = 'yes' THEN
        RETURN true;
    END IF;
    SELECT * INTO latest FROM indelible.epochs ORDER BY number DESC LIMIT 1;
    IF latest.server_started_at <> pg_postmaster_start_time()
        OR NOT indelible.is_same_log(latest)
    THEN
        RETURN false;
    END IF;
    RETURN set_config(setting, 'yes', false) = 'yes';
END
$$;
COMMENT ON FUNCTION indelible.is_current_epoch() IS
    'Whether the last epoch belongs to this copy of the log, and the leases to this run of the server.';

CREATE OR REPLACE FUNCTION indelible.ensure_epoch()
RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT indelible.is_current_epoch() THEN
        PERFORM indelible.begin_epoch(false);
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.ensure_epoch() IS
    'Begins an epoch if this is another copy of the log. Called before the first position is taken, and before the head is returned.';

CREATE OR REPLACE FUNCTION indelible.epoch()
RETURNS uuid
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_is_in_recovery() THEN
        PERFORM indelible.ensure_epoch();
    END IF;
    RETURN (SELECT epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1);
END
$$;
COMMENT ON FUNCTION indelible.epoch() IS 'The current epoch.';

CREATE OR REPLACE FUNCTION indelible.renew_epoch()
RETURNS uuid
LANGUAGE sql
AS $$
    SELECT indelible.begin_epoch(true)
$$;
COMMENT ON FUNCTION indelible.renew_epoch() IS
    'Begins a new epoch, after a restore that neither the timeline nor the system identifier shows.';

CREATE OR REPLACE FUNCTION indelible.head_state(
    OUT head bigint, OUT epoch uuid, OUT event_id uuid
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    head := indelible.head();
    epoch := (SELECT epochs.epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1);
    event_id := (SELECT id FROM indelible.all_events WHERE position = head);
END
$$;
COMMENT ON FUNCTION indelible.head_state() IS
    'The settled position, its epoch, and the id of the event at that position.';

CREATE OR REPLACE FUNCTION indelible.check_reader_epoch(
    epoch uuid, anchor_position bigint, anchor_id uuid
)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the log cannot be read on a standby, which may lag behind the head'
        USING ERRCODE = 'IND03', HINT = 'Read the log from the primary server.';
    END IF;
    IF check_reader_epoch.epoch IS NOT NULL AND NOT (
        indelible.is_current_epoch()
        AND check_reader_epoch.epoch = (
            SELECT epochs.epoch FROM indelible.epochs ORDER BY number DESC LIMIT 1
        )
        -- A copied disk has the same epoch.
        AND (
            anchor_id IS NULL
            OR EXISTS (
                SELECT FROM indelible.all_events
                WHERE position = anchor_position AND id = anchor_id
            )
        )
    ) THEN
        RAISE EXCEPTION 'the log has another epoch than the one that the reader has read'
        USING ERRCODE = 'IND06';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.check_reader_epoch(uuid, bigint, uuid) IS
    'Raises IND06 if the epoch is no longer the current one, or if an event that the reader knows is not at its position. Raises IND03 on a standby. This ensures that a page is from the log that the reader has read.';

CREATE OR REPLACE FUNCTION indelible.record_settled_position()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settled_position bigint;
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        RETURN;
    END IF;
    settled_position := indelible.head();
    -- Only the order in the write-ahead log matters, not when it reaches the disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO indelible.settled AS stored (position, noted_at)
    VALUES (settled_position, clock_timestamp())
    ON CONFLICT ON CONSTRAINT settled_pkey DO UPDATE
    SET position = excluded.position, noted_at = excluded.noted_at
    WHERE stored.position < excluded.position;
END
$$;
COMMENT ON FUNCTION indelible.record_settled_position() IS
    'Writes the settled position into the table settled. Readers call it about once a second while the log grows.';

CREATE OR REPLACE FUNCTION indelible.check_checkpoint(
    checkpoint_epoch uuid,
    "position" bigint,
    anchor_position bigint,
    anchor_id uuid,
    OUT is_valid boolean,
    OUT epoch uuid,
    OUT safe_through bigint,
    OUT last_position bigint
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own integer;
    today integer;
BEGIN
    PERFORM indelible.ensure_epoch();
    SELECT epochs.number, epochs.epoch INTO today, epoch
    FROM indelible.epochs ORDER BY epochs.number DESC LIMIT 1;
    last_position := coalesce(pg_sequence_last_value('indelible.events_position'), 0);
    SELECT epochs.number INTO own FROM indelible.epochs WHERE epochs.epoch = checkpoint_epoch;
    -- Null if this log does not know the epoch: it was restored to a time before the epoch began.
    IF own < today THEN
        SELECT min(epochs.safe_through) INTO safe_through
        FROM indelible.epochs WHERE epochs.number > own;
    END IF;
    is_valid := EXISTS (
        SELECT FROM indelible.all_events WHERE position = anchor_position AND id = anchor_id
    );
    IF NOT is_valid THEN
        is_valid := coalesce(check_checkpoint.position <= safe_through, false)
            -- The checkpoint is of the current epoch, and carries no event that could be missing.
            OR coalesce(own = today, false) AND anchor_id IS NULL
                AND check_checkpoint.position <= last_position;
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.check_checkpoint(uuid, bigint, bigint, uuid) IS
    'Whether a reader may continue from a checkpoint, a position in an epoch. It may if the event that the checkpoint carries is still at its position, or if safe_through of every later epoch covers the position. safe_through is the position up to which the log is the same; null if it is not known.';
