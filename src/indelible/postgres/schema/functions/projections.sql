-- Projections: read models kept up to date from events. docs/explanation/projections.md explains
-- why state and checkpoint always agree, even after a crash.

CREATE OR REPLACE FUNCTION indelible.projection_lock_key(name text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext('projection ' || projection_lock_key.name COLLATE "C");
COMMENT ON FUNCTION indelible.projection_lock_key(text) IS
    'The second key of a projection''s advisory lock; the first is the store''s lock key.';

CREATE OR REPLACE FUNCTION indelible.projection_build_lock_key(name text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext('projection begins ' || projection_build_lock_key.name COLLATE "C");
COMMENT ON FUNCTION indelible.projection_build_lock_key(text) IS
    'The second key of the advisory lock for creating a build, which appends do not take.';

CREATE OR REPLACE FUNCTION indelible.projection_try_lock(key integer)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Later requests queue behind one that waits for this lock.
SET lock_timeout = '200ms'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock(indelible.store_lock_key()::integer, key);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION indelible.projection_try_lock(integer) IS
    'Takes the advisory lock of a projection_lock_key() until the transaction ends. Waits 200 ms at most, and returns whether it has the lock.';

CREATE OR REPLACE FUNCTION indelible.projection_lock(name text, key integer, attempts integer)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    holders text;
BEGIN
    FOR attempt IN 1..attempts LOOP
        IF indelible.projection_try_lock(projection_lock.key) THEN
            RETURN;
        END IF;
        IF attempt < attempts THEN
            PERFORM pg_sleep(0.3);  -- lets queued requests go first
        END IF;
    END LOOP;
    SELECT string_agg(indelible.describe_transaction(locks.pid), '; ')
    INTO holders
    FROM pg_locks AS locks
    WHERE locks.locktype = 'advisory' AND locks.objsubid = 2 AND locks.granted
        AND locks.classid::bigint = indelible.store_lock_key()
        AND locks.objid::bigint = projection_lock.key::bigint & 4294967295
        AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'projection % is locked by %', name,
        coalesce(holders, 'transactions that have just ended')
    USING ERRCODE = 'lock_not_available', HINT = 'Try again once these have ended.';
END
$$;
COMMENT ON FUNCTION indelible.projection_lock(text, integer, integer) IS
    'Calls projection_try_lock() up to so many times; then raises lock_not_available and names the holders.';

CREATE OR REPLACE FUNCTION indelible.projection_create_build(
    name text,
    version integer,
    kind text,
    lifecycle text,
    state text,
    items jsonb,
    partitions smallint,
    index_fields text[]
)
RETURNS bigint
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    build_id bigint;
    field text;
BEGIN
    INSERT INTO indelible.projections
        (name, version, kind, lifecycle, state, query, partitions, indexes, served_at)
    VALUES (
        name, version, kind, lifecycle, state, items, partitions, index_fields,
        CASE WHEN projection_create_build.state = 'serving' THEN clock_timestamp() END
    )
    RETURNING id INTO build_id;
    INSERT INTO indelible.projection_partitions (projection_id, partition, epoch)
    SELECT build_id, number, indelible.epoch()
    FROM generate_series(0, projection_create_build.partitions - 1) AS parts (number);
    IF projection_create_build.kind = 'documents' THEN
        -- Created first and then attached, so that readers and writers of other builds are not
        -- blocked.
        EXECUTE format(
            'CREATE TABLE indelible.%I (LIKE indelible.projection_documents INCLUDING ALL)'
            ' WITH (fillfactor = 70)',
            'documents_' || build_id
        );
        EXECUTE format(
            'COMMENT ON TABLE indelible.%I IS %L',
            'documents_' || build_id,
            format('The documents of projection %s, version %s.', name, version)
        );
        FOREACH field IN ARRAY index_fields LOOP
            EXECUTE format(
                'CREATE INDEX ON indelible.%I ((document -> %L))', 'documents_' || build_id, field
            );
        END LOOP;
        EXECUTE format(
            'ALTER TABLE indelible.projection_documents ATTACH PARTITION indelible.%I'
            ' FOR VALUES IN (%s)',
            'documents_' || build_id, build_id
        );
    END IF;
    RETURN build_id;
END
$$;
COMMENT ON FUNCTION indelible.projection_create_build(text, integer, text, text, text, jsonb, smallint, text[]) IS
    'Creates a build that starts at the beginning of the log: its row, its partitions, and the table of its documents.';

CREATE OR REPLACE FUNCTION indelible.projection_register(
    name text,
    version integer,
    kind text,
    declared_lifecycle text,
    items jsonb,
    partitions smallint,
    index_fields text[]
)
RETURNS TABLE (id bigint, state text, lifecycle text, matches boolean, is_new boolean)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    has_events boolean;
    initial_state text;
    created_id bigint;
BEGIN
    -- Not the lock of appends, which would queue behind it; and no lock at all if the build exists.
    IF NOT EXISTS (
        SELECT FROM indelible.projections AS builds
        WHERE builds.name = projection_register.name
            AND builds.version = projection_register.version
            AND builds.state <> 'retired'
    ) THEN
        -- Before the lock: this reads the whole log if no event matches, and no other session has
        -- to wait for it.
        has_events := declared_lifecycle = 'inline' AND EXISTS (
            SELECT
            FROM indelible.recorded_events AS recorded
            JOIN jsonb_to_recordset(items)
                AS items (types text[], tags text[], channel text, stream text, stream_prefix text)
            ON (items.types IS NULL OR recorded.type = ANY(items.types))
                AND (items.tags IS NULL OR recorded.tags @> items.tags)
                AND (items.channel IS NULL OR recorded.channel = items.channel)
                AND (items.stream IS NULL OR recorded.stream = items.stream)
                AND (
                    items.stream_prefix IS NULL
                    OR starts_with(recorded.stream, items.stream_prefix)
                )
        );
        PERFORM indelible.projection_lock(name, indelible.projection_build_lock_key(name), 20);
    END IF;
    -- In a later statement, which sees a build that was created before the lock was taken.
    IF NOT EXISTS (
        SELECT FROM indelible.projections AS builds
        WHERE builds.name = projection_register.name
            AND builds.version = projection_register.version
            AND builds.state <> 'retired'
    ) THEN
        initial_state := CASE
            -- The serving build continues until this one has caught up.
            WHEN EXISTS (
                SELECT FROM indelible.projections AS serving
                WHERE serving.name = projection_register.name AND serving.state = 'serving'
            ) THEN 'building'
            -- Appends update it from now on only: earlier events have to be read first.
            WHEN declared_lifecycle = 'inline' AND has_events IS DISTINCT FROM false THEN 'building'
            ELSE 'serving'
        END;
        created_id := indelible.projection_create_build(
            name, version, kind, declared_lifecycle, initial_state, items, partitions,
            index_fields
        );
    END IF;
    RETURN QUERY
        SELECT builds.id, builds.state, builds.lifecycle,
            builds.kind = projection_register.kind
                AND builds.query = items
                AND builds.partitions = projection_register.partitions
                AND builds.indexes = index_fields,
            builds.id IS NOT DISTINCT FROM created_id
        FROM indelible.projections AS builds
        WHERE builds.name = projection_register.name
            AND builds.version = projection_register.version
            AND builds.state <> 'retired'
        ORDER BY builds.state DESC;
END
$$;
COMMENT ON FUNCTION indelible.projection_register(text, integer, text, text, jsonb, smallint, text[]) IS
    'Creates a projection that does not exist, and returns its builds, the serving one first, whether each matches the definition, and whether it was created now.';

CREATE OR REPLACE FUNCTION indelible.projection_register_tables(
    name text,
    version integer,
    kind text,
    declared_lifecycle text,
    items jsonb,
    partitions smallint,
    index_fields text[],
    ddl text
)
RETURNS TABLE (id bigint, state text, lifecycle text, matches boolean)
LANGUAGE plpgsql
-- With the rights and the search_path of the caller, who owns the tables.
AS $$
DECLARE
    is_new boolean;
BEGIN
    FOR id, state, lifecycle, matches, is_new IN
        SELECT builds.id, builds.state, builds.lifecycle, builds.matches, builds.is_new
        FROM indelible.projection_register(
            name => projection_register_tables.name,
            version => projection_register_tables.version,
            kind => projection_register_tables.kind,
            declared_lifecycle => projection_register_tables.declared_lifecycle,
            items => projection_register_tables.items,
            partitions => projection_register_tables.partitions,
            index_fields => projection_register_tables.index_fields
        ) AS builds
    LOOP
        IF is_new THEN
            EXECUTE ddl;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.projection_register_tables(text, integer, text, text, jsonb, smallint, text[], text) IS
    'Calls projection_register(), and executes DDL as the caller if that created the projection.';

CREATE OR REPLACE FUNCTION indelible.projection_serving_build(
    name text, version integer, settled bigint
)
RETURNS TABLE (id bigint, checkpoint bigint)
LANGUAGE plpgsql
ROWS 1
-- The checkpoint as of the snapshot in which the caller's statement reads the documents.
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT
            builds.id,
            CASE
                WHEN builds.lifecycle = 'inline' THEN settled
                ELSE (
                    SELECT min(parts.position)
                    FROM indelible.projection_partitions AS parts
                    WHERE parts.projection_id = builds.id
                )
            END
        FROM indelible.projections AS builds
        WHERE builds.name = projection_serving_build.name
            AND builds.version = projection_serving_build.version
            AND builds.state = 'serving';
END
$$;
COMMENT ON FUNCTION indelible.projection_serving_build(text, integer, bigint) IS
    'The serving build of a projection and its checkpoint, given a head that was read before; no row without a serving build.';

-- The head is read in an earlier statement than the documents, so all events up to it are visible.
-- In the other order a reader could get a checkpoint that is newer than its documents.
CREATE OR REPLACE FUNCTION indelible.documents_get(name text, version integer, keys text[])
RETURNS TABLE (checkpoint bigint, head bigint, key text, document jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    settled constant bigint := indelible.head();
BEGIN
    RETURN QUERY
        SELECT serving.checkpoint, settled, stored.key, stored.document
        FROM indelible.projection_serving_build(name, version, settled) AS serving
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = serving.id
                AND documents.key = ANY(keys)
        ) AS stored ON true
        ORDER BY stored.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_get(text, integer, text[]) IS
    'Documents of a version by their keys, its checkpoint and the head. One row without a document if none exists; no row if the version does not serve.';

CREATE OR REPLACE FUNCTION indelible.documents_list(
    name text, version integer, after_key text, max_rows bigint
)
RETURNS TABLE (checkpoint bigint, head bigint, key text, document jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    settled constant bigint := indelible.head();
BEGIN
    RETURN QUERY
        SELECT serving.checkpoint, settled, stored.key, stored.document
        FROM indelible.projection_serving_build(name, version, settled) AS serving
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = serving.id
                AND documents.key > after_key
            ORDER BY documents.key
            LIMIT max_rows
        ) AS stored ON true
        ORDER BY stored.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_list(text, integer, text, bigint) IS
    'Documents of a version in order of key; rows as in documents_get().';

CREATE OR REPLACE FUNCTION indelible.documents_find(
    name text,
    version integer,
    field text,
    value jsonb,
    fields jsonb,
    after_key text,
    max_rows bigint
)
RETURNS TABLE (checkpoint bigint, head bigint, key text, document jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- The best plan depends on whether the field has an index.
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    settled constant bigint := indelible.head();
BEGIN
    RETURN QUERY
        SELECT serving.checkpoint, settled, stored.key, stored.document
        FROM indelible.projection_serving_build(name, version, settled) AS serving
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = serving.id
                AND documents.key > after_key
                -- One field by its index, if there is one; then all fields.
                AND documents.document -> documents_find.field = value
                AND NOT EXISTS (
                    SELECT
                    FROM jsonb_each(fields) AS filters
                    WHERE documents.document -> filters.key IS DISTINCT FROM filters.value
                )
            ORDER BY documents.key
            LIMIT max_rows
        ) AS stored ON true
        ORDER BY stored.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_find(text, integer, text, jsonb, jsonb, text, bigint) IS
    'Documents of a version by the values of their fields, in order of key; rows as in documents_get().';

CREATE OR REPLACE FUNCTION indelible.projection_acquire(
    projection_id bigint, partition smallint, owner text, lease double precision
)
RETURNS TABLE (token bigint, "position" bigint, epoch uuid)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.ensure_epoch();
    -- Appends update a serving inline build: a worker would apply its events twice. The build
    -- cannot start to serve between this check and the lease; if it is about to, it is not leased
    -- now.
    IF (
        SELECT lifecycle FROM indelible.projections
        WHERE projections.id = projection_acquire.projection_id
    ) = 'inline'
    THEN
        PERFORM
        FROM indelible.projections AS builds
        WHERE builds.id = projection_acquire.projection_id AND builds.state <> 'serving'
        FOR SHARE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    RETURN QUERY
        UPDATE indelible.projection_partitions AS part
        SET token = part.token + 1, owner = projection_acquire.owner, lease_seconds = lease,
            expires_at = clock_timestamp() + make_interval(secs => lease),
            updated_at = clock_timestamp()
        WHERE (part.projection_id, part.partition) IN (
            -- A partition whose owner is committing is not free, even if its lease has expired.
            SELECT free.projection_id, free.partition
            FROM indelible.projection_partitions AS free
            WHERE free.projection_id = projection_acquire.projection_id
                AND free.partition = projection_acquire.partition
                AND free.expires_at <= clock_timestamp()
            FOR UPDATE SKIP LOCKED
        )
        RETURNING part.token, part.position, part.epoch;
END
$$;
COMMENT ON FUNCTION indelible.projection_acquire(bigint, smallint, text, double precision) IS
    'Acquires a free partition with a token higher than all before; no row if it is not free.';

CREATE OR REPLACE FUNCTION indelible.projection_heartbeat(
    projection_id bigint, partition smallint, token bigint
)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    current_position bigint;
BEGIN
    PERFORM indelible.ensure_epoch();
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_partitions
    SET expires_at = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE projection_id = projection_heartbeat.projection_id
        AND partition = projection_heartbeat.partition
        AND token = projection_heartbeat.token
    RETURNING position INTO current_position;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % has expired', token
        USING ERRCODE = 'IND05';
    END IF;
    RETURN current_position;
END
$$;
COMMENT ON FUNCTION indelible.projection_heartbeat(bigint, smallint, bigint) IS
    'Renews a lease, and returns the checkpoint. Raises IND05 if another worker has taken over.';

CREATE OR REPLACE FUNCTION indelible.projection_renew_lease(
    projection_id bigint, partition smallint, token bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_partitions AS part
    SET expires_at = clock_timestamp() + make_interval(secs => part.lease_seconds)
    WHERE (part.projection_id, part.partition) IN (
        -- A locked row is being committed, which renews its lease.
        SELECT held.projection_id, held.partition
        FROM indelible.projection_partitions AS held
        WHERE held.projection_id = projection_renew_lease.projection_id
            AND held.partition = projection_renew_lease.partition
            -- A row without an owner was released under this token.
            AND held.token = projection_renew_lease.token AND held.owner IS NOT NULL
        FOR NO KEY UPDATE SKIP LOCKED
    );
    RETURN FOUND OR EXISTS (
        SELECT FROM indelible.projection_partitions
        WHERE projection_id = projection_renew_lease.projection_id
            AND partition = projection_renew_lease.partition
            AND token = projection_renew_lease.token
            AND owner IS NOT NULL
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_renew_lease(bigint, smallint, bigint) IS
    'Renews a lease without ever waiting; returns whether the worker still holds it.';

CREATE OR REPLACE FUNCTION indelible.projection_release(
    projection_id bigint, partition smallint, token bigint
)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE indelible.projection_partitions
    SET owner = NULL, expires_at = '-infinity'
    WHERE projection_id = projection_release.projection_id
        AND partition = projection_release.partition
        AND token = projection_release.token
$$;
COMMENT ON FUNCTION indelible.projection_release(bigint, smallint, bigint) IS
    'Releases a partition: another worker can acquire it at once.';

-- A transaction that writes state locks the partition's row until it ends, and a worker that takes
-- over skips locked rows. So one of them comes first, and the second sees its result.
CREATE OR REPLACE FUNCTION indelible.projection_fence(
    projection_id bigint, partition smallint, token bigint
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    lease double precision;
BEGIN
    PERFORM indelible.ensure_epoch();
    SELECT lease_seconds INTO lease
    FROM indelible.projection_partitions
    WHERE projection_id = projection_fence.projection_id
        AND partition = projection_fence.partition
        AND token = projection_fence.token
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % has expired', token
        USING ERRCODE = 'IND05';
    END IF;
    -- A worker that is stopped in the middle of its transaction would hold the row forever.
    PERFORM set_config(
        'idle_in_transaction_session_timeout', ceil(greatest(lease, 1) * 1000)::text, true
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_fence(bigint, smallint, bigint) IS
    'Raises IND05 if another worker has taken over; otherwise prevents that until the transaction ends.';

CREATE OR REPLACE FUNCTION indelible.projection_advance(
    projection_id bigint,
    partition smallint,
    token bigint,
    after_position bigint,
    upto_position bigint,
    event_count bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    current_position bigint;
BEGIN
    PERFORM indelible.ensure_epoch();
    UPDATE indelible.projection_partitions
    SET position = upto_position, handled = handled + event_count, epoch = indelible.epoch(),
        expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
        attempts = 0, error = NULL, error_position = NULL, updated_at = clock_timestamp()
    WHERE projection_id = projection_advance.projection_id
        AND partition = projection_advance.partition
        AND token = projection_advance.token
        AND position = after_position;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT position INTO current_position
    FROM indelible.projection_partitions
    WHERE projection_id = projection_advance.projection_id
        AND partition = projection_advance.partition
        AND token = projection_advance.token;
    IF current_position IS NULL THEN
        RAISE EXCEPTION 'the lease of worker % has expired', token
        USING ERRCODE = 'IND05';
    END IF;
    IF current_position <> upto_position THEN
        RAISE EXCEPTION 'partition % is at position %, and neither at % nor at %',
            partition, current_position, after_position, upto_position
        USING ERRCODE = 'IND05';
    END IF;
    -- It is the same call again, after its answer was lost.
    RETURN false;
END
$$;
COMMENT ON FUNCTION indelible.projection_advance(bigint, smallint, bigint, bigint, bigint, bigint) IS
    'Moves a checkpoint in the transaction that writes the state. False if it was moved before; raises IND05 if another worker has taken over.';

CREATE OR REPLACE FUNCTION indelible.projection_store_documents(
    projection_id bigint, changed jsonb, removed text[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO indelible.projection_documents AS stored (projection_id, key, document, position)
    SELECT projection_store_documents.projection_id, changes.key, changes.document, changes.position
    FROM jsonb_to_recordset(changed) AS changes (key text, document jsonb, "position" bigint)
    ON CONFLICT ON CONSTRAINT projection_documents_pkey DO UPDATE
    SET document = excluded.document, position = excluded.position;
    IF cardinality(removed) > 0 THEN
        DELETE FROM indelible.projection_documents
        WHERE projection_id = projection_store_documents.projection_id AND key = ANY(removed);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.projection_store_documents(bigint, jsonb, text[]) IS
    'Writes documents, and deletes others.';

CREATE OR REPLACE FUNCTION indelible.projection_commit(
    projection_id bigint,
    partition smallint,
    token bigint,
    after_position bigint,
    upto_position bigint,
    event_count bigint,
    changed jsonb,
    removed text[]
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- A crash of the server may undo the latest commits: state and checkpoint alike, so that the
    -- same events are read again.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF NOT indelible.projection_advance(
        projection_id, partition, token, after_position, upto_position, event_count
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.projection_store_documents(projection_id, changed, removed);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_commit(bigint, smallint, bigint, bigint, bigint, bigint, jsonb, text[]) IS
    'Writes the documents of a batch and moves the checkpoint in one transaction. False if that was done before; raises IND05 if another worker has taken over.';

CREATE OR REPLACE FUNCTION indelible.projection_lock_build(name text, version integer)
RETURNS TABLE (id bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'inline projection % cannot be brought up to date in a % transaction: its snapshot may be older than the documents',
            name, current_setting('transaction_isolation')
        USING ERRCODE = 'IND02',
            HINT = 'Append events of inline projections in a READ COMMITTED transaction.';
    END IF;
    -- A build that cuts over holds this lock exclusively.
    PERFORM pg_advisory_xact_lock_shared(
        indelible.store_lock_key()::integer, indelible.projection_lock_key(name)
    );
    RETURN QUERY
        SELECT builds.id
        FROM indelible.projections AS builds
        WHERE builds.name = projection_lock_build.name
            AND builds.version = projection_lock_build.version
            AND builds.state = 'serving'
            AND builds.lifecycle = 'inline';
END
$$;
COMMENT ON FUNCTION indelible.projection_lock_build(text, integer) IS
    'The serving build of an inline projection, which keeps serving until the transaction ends; no row if it is not built yet.';

CREATE OR REPLACE FUNCTION indelible.projection_lock_documents(projection_id bigint, keys text[])
RETURNS TABLE (key text, document jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Locks the rows in one order, to prevent deadlocks. A document that does not exist yet gets an
    -- empty row at position 0, which projection_write_documents() fills or deletes before the
    -- commit. Rows, and not advisory locks: the server's lock table is limited.
    INSERT INTO indelible.projection_documents AS stored (projection_id, key, document, position)
    SELECT projection_lock_documents.projection_id, requested.key, 'null', 0
    FROM (SELECT DISTINCT keys.key FROM unnest(keys) AS keys (key)) AS requested
    ORDER BY requested.key COLLATE "C"
    ON CONFLICT ON CONSTRAINT projection_documents_pkey DO UPDATE
    SET position = stored.position
    WHERE false;
    -- In a later statement, which sees all that was committed before the locks were taken.
    RETURN QUERY
        SELECT stored.key, stored.document
        FROM indelible.projection_documents AS stored
        WHERE stored.projection_id = projection_lock_documents.projection_id
            AND stored.key = ANY(keys)
            AND stored.position > 0;
END
$$;
COMMENT ON FUNCTION indelible.projection_lock_documents(bigint, text[]) IS
    'Locks documents against other inline writers until the transaction ends, and returns them. projection_write_documents() has to follow.';

CREATE OR REPLACE FUNCTION indelible.projection_write_documents(
    projection_id bigint, changed jsonb, removed text[]
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (
        SELECT FROM indelible.projections
        WHERE id = projection_write_documents.projection_id AND lifecycle = 'inline'
    ) THEN
        RAISE EXCEPTION 'projection % is not inline', projection_id
        USING ERRCODE = 'IND04', HINT = 'Its documents change only together with its checkpoint.';
    END IF;
    PERFORM indelible.projection_store_documents(projection_id, changed, removed);
END
$$;
COMMENT ON FUNCTION indelible.projection_write_documents(bigint, jsonb, text[]) IS
    'Writes documents of an inline projection, in the transaction of the append.';

CREATE OR REPLACE FUNCTION indelible.projection_worker_heartbeat(
    worker text,
    projection_ids bigint[],
    lease double precision,
    held_projections bigint[],
    held_partitions smallint[]
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.ensure_epoch();
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO indelible.projection_workers (name, projections, expires_at)
    VALUES (worker, projection_ids, clock_timestamp() + make_interval(secs => lease))
    ON CONFLICT ON CONSTRAINT projection_workers_pkey DO UPDATE
    SET projections = excluded.projections, expires_at = excluded.expires_at;
    DELETE FROM indelible.projection_workers
    WHERE name IN (
        SELECT expired.name
        FROM indelible.projection_workers AS expired
        WHERE expired.expires_at < clock_timestamp()
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
        -- A locked row is being committed, which renews its lease; the others do not wait for it.
        SELECT held.projection_id, held.partition
        FROM unnest(held_projections, held_partitions) AS owned (projection_id, partition)
        JOIN indelible.projection_partitions AS held
            ON held.projection_id = owned.projection_id AND held.partition = owned.partition
        WHERE held.owner = worker
        FOR NO KEY UPDATE OF held SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_worker_heartbeat(text, bigint[], double precision, bigint[], smallint[]) IS
    'Renews the leases of a process and of its partitions, and deletes expired processes.';

CREATE OR REPLACE FUNCTION indelible.projection_worker_renew_lease(
    worker text,
    lease double precision,
    held_projections bigint[],
    held_partitions smallint[]
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_workers AS renewed
    SET expires_at = clock_timestamp() + make_interval(secs => lease)
    WHERE renewed.name IN (
        SELECT live.name FROM indelible.projection_workers AS live
        WHERE live.name = worker
        FOR NO KEY UPDATE SKIP LOCKED
    );
    UPDATE indelible.projection_partitions AS part
    SET expires_at = clock_timestamp() + make_interval(secs => part.lease_seconds)
    WHERE (part.projection_id, part.partition) IN (
        SELECT held.projection_id, held.partition
        FROM unnest(held_projections, held_partitions) AS owned (projection_id, partition)
        JOIN indelible.projection_partitions AS held
            ON held.projection_id = owned.projection_id AND held.partition = owned.partition
        WHERE held.owner = worker
        FOR NO KEY UPDATE OF held SKIP LOCKED
    );
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_worker_renew_lease(text, double precision, bigint[], smallint[]) IS
    'Renews the leases of a process and of its partitions without ever waiting. A process that has left is not registered again.';

CREATE OR REPLACE FUNCTION indelible.projection_worker_leave(worker text)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM indelible.projection_workers WHERE name = worker
$$;
COMMENT ON FUNCTION indelible.projection_worker_leave(text) IS
    'Removes a process, which has released its partitions.';

CREATE OR REPLACE FUNCTION indelible.text_unless_erased(error text, "position" bigint)
RETURNS text
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    -- An erasure locks the stream's row, then the recorded errors of its events: either that has
    -- happened, or it waits for this transaction and then finds the text.
    PERFORM FROM indelible.streams
    WHERE id = (
        SELECT stream_id FROM indelible.recorded_events
        WHERE position = text_unless_erased.position
    )
    FOR KEY SHARE;
    RETURN CASE
        WHEN EXISTS (
            SELECT FROM indelible.recorded_events
            WHERE position = text_unless_erased.position AND data IS NULL
        )
        THEN 'the event was erased'
        ELSE error
    END;
END
$$;
COMMENT ON FUNCTION indelible.text_unless_erased(text, bigint) IS
    'The text of an error, which may repeat data of its event; another text if the event was erased. Blocks erasures until the transaction ends.';

CREATE OR REPLACE FUNCTION indelible.projection_record_failure(
    projection_id bigint,
    partition smallint,
    token bigint,
    error text,
    "position" bigint,
    attempts integer,
    delay double precision,
    is_final boolean
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    -- First, in the order of an erasure: the stream before the partition.
    stored_error constant text := indelible.text_unless_erased(error, projection_record_failure.position);
BEGIN
    UPDATE indelible.projection_partitions
    SET attempts = projection_record_failure.attempts,
        not_before = clock_timestamp() + make_interval(secs => delay),
        is_stopped = is_final, error = stored_error, error_position = projection_record_failure.position,
        updated_at = clock_timestamp()
    WHERE projection_id = projection_record_failure.projection_id
        AND partition = projection_record_failure.partition
        AND token = projection_record_failure.token
        AND position < coalesce(projection_record_failure.position, position + 1);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % has expired', token
        USING ERRCODE = 'IND05';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.projection_record_failure(bigint, smallint, bigint, text, bigint, integer, double precision, boolean) IS
    'Records how often a batch has failed: it is retried after a delay, or stopped. Raises IND05 if another worker has taken over, or the event is applied after all.';

CREATE OR REPLACE FUNCTION indelible.projection_park(
    projection_id bigint, partition smallint, token bigint, error text, "position" bigint
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    stored_error constant text := indelible.text_unless_erased(error, projection_park.position);
BEGIN
    UPDATE indelible.projection_partitions
    SET attempts = 0, not_before = '-infinity', error = NULL, error_position = NULL,
        updated_at = clock_timestamp()
    WHERE projection_id = projection_park.projection_id
        AND partition = projection_park.partition
        AND token = projection_park.token
        AND position < projection_park.position;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % has expired', token
        USING ERRCODE = 'IND05';
    END IF;
    INSERT INTO indelible.projection_parked (projection_id, position, partition, error)
    VALUES (projection_id, position, partition, stored_error)
    ON CONFLICT ON CONSTRAINT projection_parked_pkey DO UPDATE SET error = excluded.error;
END
$$;
COMMENT ON FUNCTION indelible.projection_park(bigint, smallint, bigint, text, bigint) IS
    'Skips an event from now on. Raises IND05 if another worker has taken over, or the event is applied after all.';

CREATE OR REPLACE FUNCTION indelible.projection_restart(name text)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH restarted AS (
        UPDATE indelible.projection_partitions AS part
        SET is_stopped = false, attempts = 0, not_before = '-infinity',
            updated_at = clock_timestamp()
        FROM indelible.projections AS builds
        WHERE part.projection_id = builds.id
            AND builds.name = projection_restart.name
            AND part.is_stopped
        RETURNING part.partition
    )
    SELECT count(*) FROM restarted
$$;
COMMENT ON FUNCTION indelible.projection_restart(text) IS
    'Restarts stopped partitions; returns how many.';

CREATE OR REPLACE FUNCTION indelible.projection_discard(name text, "position" bigint)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH discarded AS (
        UPDATE indelible.projection_parked AS parked
        SET discarded_at = clock_timestamp()
        FROM indelible.projections AS builds
        WHERE parked.projection_id = builds.id AND builds.name = projection_discard.name
            AND parked.discarded_at IS NULL
            AND coalesce(parked.position = projection_discard.position, true)
        RETURNING parked.position
    )
    SELECT count(DISTINCT position) FROM discarded
$$;
COMMENT ON FUNCTION indelible.projection_discard(text, bigint) IS
    'Discards parked events, one or (null) all; returns how many.';

CREATE OR REPLACE FUNCTION indelible.projection_start_rebuild(name text, version integer)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    build_id bigint;
    serving indelible.projections;
BEGIN
    -- Not the lock of appends, which would queue behind it.
    PERFORM indelible.projection_lock(name, indelible.projection_build_lock_key(name), 20);
    SELECT id INTO build_id
    FROM indelible.projections
    WHERE name = projection_start_rebuild.name
        AND version = projection_start_rebuild.version
        AND state = 'building';
    IF build_id IS NOT NULL THEN
        UPDATE indelible.projection_partitions
        SET is_stopped = false, attempts = 0, not_before = '-infinity'
        WHERE projection_id = build_id AND is_stopped;
        RETURN build_id;
    END IF;
    SELECT * INTO STRICT serving
    FROM indelible.projections
    WHERE name = projection_start_rebuild.name
        AND version = projection_start_rebuild.version
        AND state = 'serving';
    RETURN indelible.projection_create_build(
        name, version, serving.kind, serving.lifecycle, 'building', serving.query,
        serving.partitions, serving.indexes
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_start_rebuild(text, integer) IS
    'Creates a build beside the serving one, or continues the one that exists.';

CREATE OR REPLACE FUNCTION indelible.projection_force_lease(projection_id bigint)
RETURNS TABLE (partition smallint, token bigint, "position" bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Appends that update the projection hold this lock shared until they have committed: what they
    -- stored is visible to the statements after this one, and later appends wait.
    PERFORM indelible.projection_lock(builds.name, indelible.projection_lock_key(builds.name), 1)
    FROM indelible.projections AS builds
    WHERE builds.id = projection_force_lease.projection_id;
    -- Appends must not wait long for a process that is stopped in the middle.
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    RETURN QUERY
        UPDATE indelible.projection_partitions AS part
        SET token = part.token + 1, owner = NULL, expires_at = '-infinity'
        FROM indelible.projections AS builds
        WHERE builds.id = projection_force_lease.projection_id AND builds.state = 'building'
            AND part.projection_id = builds.id
        RETURNING part.partition, part.token, part.position;
END
$$;
COMMENT ON FUNCTION indelible.projection_force_lease(bigint) IS
    'Blocks appends to an inline projection and acquires all partitions of a build, for the transaction in which it cuts over.';

CREATE OR REPLACE FUNCTION indelible.projection_cut_over(projection_id bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The calling thread also sends heartbeats: it must not wait long.
SET lock_timeout = '200ms'
AS $$
#variable_conflict use_column
DECLARE
    build indelible.projections;
    serving_id bigint;
    target bigint;
BEGIN
    BEGIN
        PERFORM indelible.projection_lock(name, indelible.projection_lock_key(name), 1)
        FROM indelible.projections
        WHERE id = projection_cut_over.projection_id;
        SELECT * INTO build
        FROM indelible.projections
        WHERE id = projection_cut_over.projection_id
        FOR NO KEY UPDATE;
        IF build.state = 'building' AND build.lifecycle = 'async' THEN
            SELECT id INTO serving_id
            FROM indelible.projections
            WHERE name = build.name AND state = 'serving'
            -- The build that it replaces; for a new version the newest one, which readers use now.
            ORDER BY version = build.version DESC, version DESC
            LIMIT 1
            FOR NO KEY UPDATE;
            PERFORM FROM indelible.projection_partitions
            WHERE projection_id = serving_id
            ORDER BY partition
            FOR UPDATE;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    IF build.state IS DISTINCT FROM 'building' THEN
        RETURN coalesce(build.state = 'serving', false);
    END IF;
    IF build.lifecycle = 'async' THEN
        -- A reader must not see an older state after the switch: the serving build is paused until
        -- this one has caught up.
        SELECT min(position) INTO target
        FROM indelible.projection_partitions
        WHERE projection_id = serving_id;
        FOR attempt IN 1..20 LOOP
            IF (
                SELECT min(position) >= coalesce(target, 0)
                FROM indelible.projection_partitions
                WHERE projection_id = projection_cut_over.projection_id
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
    WHERE name = build.name AND version = build.version AND state = 'serving';
    UPDATE indelible.projections
    SET state = 'serving', served_at = clock_timestamp(),
        live_after = (
            SELECT max(position)
            FROM indelible.projection_partitions
            WHERE projection_id = projection_cut_over.projection_id
        )
    WHERE id = projection_cut_over.projection_id;
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_cut_over(bigint) IS
    'Makes a build serve in place of the earlier one, if it has caught up; returns whether it serves.';

CREATE OR REPLACE FUNCTION indelible.projection_retire(name text, version integer)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    retired bigint;
BEGIN
    PERFORM indelible.projection_lock(name, indelible.projection_lock_key(name), 10);
    UPDATE indelible.projections
    SET state = 'retired', retired_at = clock_timestamp()
    WHERE name = projection_retire.name
        AND version = projection_retire.version
        AND state <> 'retired';
    GET DIAGNOSTICS retired = ROW_COUNT;
    RETURN retired;
END
$$;
COMMENT ON FUNCTION indelible.projection_retire(text, integer) IS
    'Retires a version of a projection; returns how many builds it had.';

CREATE OR REPLACE FUNCTION indelible.projection_drop_retired()
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- While this waits for a lock, readers of other projections queue behind it.
SET lock_timeout = '10ms'
AS $$
DECLARE
    retired indelible.projections;
BEGIN
    -- One at a time: another session that drops the same table would find its name but no longer
    -- its parent, which PostgreSQL reports as an internal error.
    FOR retired IN
        SELECT * FROM indelible.projections WHERE state = 'retired' FOR UPDATE SKIP LOCKED
    LOOP
        BEGIN
            IF retired.kind = 'documents' THEN
                EXECUTE format('DROP TABLE IF EXISTS indelible.%I', 'documents_' || retired.id);
            END IF;
            DELETE FROM indelible.projections WHERE id = retired.id;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;  -- a reader holds it
        END;
    END LOOP;
    RETURN (SELECT count(*) FROM indelible.projections WHERE state = 'retired');
END
$$;
COMMENT ON FUNCTION indelible.projection_drop_retired() IS
    'Drops the tables and rows of retired builds; returns how many remain because they are in use.';
