-- Projections: read models kept up to date from events. docs/explanation/projections.md tells why
-- state and checkpoint never part, whoever dies when.

CREATE OR REPLACE FUNCTION indelible.projection_lock_key(name text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext('projection ' || projection_lock_key.name COLLATE "C");
COMMENT ON FUNCTION indelible.projection_lock_key(text) IS
    'The second key of a projection''s advisory lock; the first is the store''s number.';

CREATE OR REPLACE FUNCTION indelible.projection_build_lock_key(name text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext('projection begins ' || projection_build_lock_key.name COLLATE "C");
COMMENT ON FUNCTION indelible.projection_build_lock_key(text) IS
    'The second key of the advisory lock under which a build is begun, which appends do not take.';

CREATE OR REPLACE FUNCTION indelible.projection_try_lock(key integer)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- All that come later queue up behind a lock that is waited for.
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
    'Takes the advisory lock of a projection_lock_key() until the transaction ends, waiting a fifth of a second at most; whether it has it.';

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
            PERFORM pg_sleep(0.3);  -- whoever has queued up goes first
        END IF;
    END LOOP;
    SELECT string_agg(indelible.describe_transaction(holding.pid), '; ')
    INTO holders
    FROM pg_locks AS holding
    WHERE holding.locktype = 'advisory' AND holding.objsubid = 2 AND holding.granted
        AND holding.classid::bigint = indelible.store_lock_key()
        AND holding.objid::bigint = projection_lock.key::bigint & 4294967295
        AND holding.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'projection % is kept as it is by %', name,
        coalesce(holders, 'transactions that have just ended')
    USING ERRCODE = 'lock_not_available', HINT = 'Try again once these have ended.';
END
$$;
COMMENT ON FUNCTION indelible.projection_lock(text, integer, integer) IS
    'As projection_try_lock(), so many times; raises lock_not_available, which names the holders.';

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
    made bigint;
    field text;
BEGIN
    INSERT INTO indelible.projections
        (name, version, kind, lifecycle, state, query, partitions, indexes, served_at)
    VALUES (
        name, version, kind, lifecycle, state, items, partitions, index_fields,
        CASE WHEN projection_create_build.state = 'serving' THEN clock_timestamp() END
    )
    RETURNING id INTO made;
    INSERT INTO indelible.projection_partitions (projection_id, partition, epoch)
    SELECT made, number, indelible.epoch()
    FROM generate_series(0, projection_create_build.partitions - 1) AS parts (number);
    IF projection_create_build.kind = 'documents' THEN
        -- Made first and attached then, which lets readers and writers of the others go on.
        EXECUTE format(
            'CREATE TABLE indelible.%I (LIKE indelible.projection_documents INCLUDING ALL)'
            ' WITH (fillfactor = 70)',
            'documents_' || made
        );
        EXECUTE format(
            'COMMENT ON TABLE indelible.%I IS %L',
            'documents_' || made,
            format('The documents of projection %s, version %s.', name, version)
        );
        FOREACH field IN ARRAY index_fields LOOP
            EXECUTE format(
                'CREATE INDEX ON indelible.%I ((document -> %L))', 'documents_' || made, field
            );
        END LOOP;
        EXECUTE format(
            'ALTER TABLE indelible.projection_documents ATTACH PARTITION indelible.%I'
            ' FOR VALUES IN (%s)',
            'documents_' || made, made
        );
    END IF;
    RETURN made;
END
$$;
COMMENT ON FUNCTION indelible.projection_create_build(text, integer, text, text, text, jsonb, smallint, text[]) IS
    'Begins a build at the beginning of the log: its row, its partitions, and the table of its documents.';

CREATE OR REPLACE FUNCTION indelible.projection_register(
    name text,
    version integer,
    kind text,
    declared_lifecycle text,
    items jsonb,
    partitions smallint,
    index_fields text[]
)
RETURNS TABLE (id bigint, state text, lifecycle text, fits boolean)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    has_events boolean;
    begins_as text;
BEGIN
    -- Not the lock of appends, behind which they would queue up; and none at all once it is there.
    IF NOT EXISTS (
        SELECT FROM indelible.projections AS known
        WHERE known.name = projection_register.name
            AND known.version = projection_register.version
            AND known.state <> 'retired'
    ) THEN
        -- Before the lock: where there is none it reads the whole log, and nobody is to wait for that.
        has_events := declared_lifecycle = 'inline' AND EXISTS (
            SELECT
            FROM indelible.recorded_events AS recorded
            JOIN jsonb_to_recordset(items)
                AS items (types text[], tags text[], channel text, stream_prefix text)
            ON (items.types IS NULL OR recorded.type = ANY(items.types))
                AND (items.tags IS NULL OR recorded.tags @> items.tags)
                AND (items.channel IS NULL OR recorded.channel = items.channel)
                AND (
                    items.stream_prefix IS NULL
                    OR starts_with(recorded.stream, items.stream_prefix)
                )
        );
        PERFORM indelible.projection_lock(name, indelible.projection_build_lock_key(name), 20);
    END IF;
    -- In a later statement, which sees what was begun before the lock was had.
    IF NOT EXISTS (
        SELECT FROM indelible.projections AS known
        WHERE known.name = projection_register.name
            AND known.version = projection_register.version
            AND known.state <> 'retired'
    ) THEN
        begins_as := CASE
            -- What serves goes on until this one is as far.
            WHEN EXISTS (
                SELECT FROM indelible.projections AS other
                WHERE other.name = projection_register.name AND other.state = 'serving'
            ) THEN 'building'
            -- Appends bring it on from now on only: what there is has to be built first.
            WHEN declared_lifecycle = 'inline' AND has_events IS DISTINCT FROM false THEN 'building'
            ELSE 'serving'
        END;
        PERFORM indelible.projection_create_build(
            name, version, kind, declared_lifecycle, begins_as, items, partitions,
            index_fields
        );
    END IF;
    RETURN QUERY
        SELECT known.id, known.state, known.lifecycle,
            known.kind = projection_register.kind
                AND known.query = items
                AND known.partitions = projection_register.partitions
                AND known.indexes = index_fields
        FROM indelible.projections AS known
        WHERE known.name = projection_register.name
            AND known.version = projection_register.version
            AND known.state <> 'retired'
        ORDER BY known.state DESC;
END
$$;
COMMENT ON FUNCTION indelible.projection_register(text, integer, text, text, jsonb, smallint, text[]) IS
    'Begins a projection that is not there, and gives its builds, the one that serves first: whether each is as described.';

CREATE OR REPLACE FUNCTION indelible.projection_serving_build(
    name text, version integer, settled bigint
)
RETURNS TABLE (id bigint, checkpoint bigint)
LANGUAGE plpgsql
ROWS 1
-- The checkpoint of the moment at which the caller's statement reads the documents.
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT
            known.id,
            CASE
                WHEN known.lifecycle = 'inline' THEN settled
                ELSE (
                    SELECT min(parts.position)
                    FROM indelible.projection_partitions AS parts
                    WHERE parts.projection_id = known.id
                )
            END
        FROM indelible.projections AS known
        WHERE known.name = projection_serving_build.name
            AND known.version = projection_serving_build.version
            AND known.state = 'serving';
END
$$;
COMMENT ON FUNCTION indelible.projection_serving_build(text, integer, bigint) IS
    'The build of a projection that serves, and its checkpoint, given a head that was asked for before; no row where there is none.';

-- The head comes from a statement before the one that reads: all that it covers is visible there.
-- The other way round a reader would be told a checkpoint that is newer than its documents.
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
        SELECT served.checkpoint, settled, found.key, found.document
        FROM indelible.projection_serving_build(name, version, settled) AS served
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = served.id
                AND documents.key = ANY(keys)
        ) AS found ON true
        ORDER BY found.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_get(text, integer, text[]) IS
    'Documents of a version by their keys, its checkpoint and the head; one row without a document where there is none, no row where the version does not serve.';

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
        SELECT served.checkpoint, settled, found.key, found.document
        FROM indelible.projection_serving_build(name, version, settled) AS served
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = served.id
                AND documents.key > after_key
            ORDER BY documents.key
            LIMIT max_rows
        ) AS found ON true
        ORDER BY found.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_list(text, integer, text, bigint) IS
    'Documents of a version in order of key; its checkpoint and the head; rows as of documents_get().';

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
-- The best plan depends on the field: on whether it has an index.
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    settled constant bigint := indelible.head();
BEGIN
    RETURN QUERY
        SELECT served.checkpoint, settled, found.key, found.document
        FROM indelible.projection_serving_build(name, version, settled) AS served
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = served.id
                AND documents.key > after_key
                -- One field by its index, if it has one; then all of them.
                AND documents.document -> documents_find.field = value
                AND NOT EXISTS (
                    SELECT
                    FROM jsonb_each(fields) AS wanted
                    WHERE documents.document -> wanted.key IS DISTINCT FROM wanted.value
                )
            ORDER BY documents.key
            LIMIT max_rows
        ) AS found ON true
        ORDER BY found.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_find(text, integer, text, jsonb, jsonb, text, bigint) IS
    'Documents of a version by the values of their fields, in order of key; its checkpoint and the head; rows as of documents_get().';

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
    -- An inline one that serves is brought on by appends: others would count twice. It cannot begin
    -- to serve between this look and the lease; where it is about to, it is not leased now.
    IF (
        SELECT lifecycle FROM indelible.projections
        WHERE projections.id = projection_acquire.projection_id
    ) = 'inline'
    THEN
        PERFORM
        FROM indelible.projections AS known
        WHERE known.id = projection_acquire.projection_id AND known.state <> 'serving'
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
            -- One whose owner is at the commit has an owner, whatever its lease says.
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
    'Takes a partition that nobody holds, under a token higher than all before; no row where somebody does.';

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
    stands_at bigint;
BEGIN
    PERFORM indelible.ensure_epoch();
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_partitions
    SET expires_at = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE projection_id = projection_heartbeat.projection_id
        AND partition = projection_heartbeat.partition
        AND token = projection_heartbeat.token
    RETURNING position INTO stands_at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', token
        USING ERRCODE = 'IND05';
    END IF;
    RETURN stands_at;
END
$$;
COMMENT ON FUNCTION indelible.projection_heartbeat(bigint, smallint, bigint) IS
    'Renews a lease, and says where the checkpoint stands. Raises IND05 where others have taken over.';

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
        -- One that is locked is at a commit, which renews its lease.
        SELECT held.projection_id, held.partition
        FROM indelible.projection_partitions AS held
        WHERE held.projection_id = projection_renew_lease.projection_id
            AND held.partition = projection_renew_lease.partition
            -- One without an owner was given back under this token.
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
    'Renews a lease and does nothing else, and never waits; says whether others have not taken over.';

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
    'Gives a partition back, for the next to take at once.';

-- Whoever writes state holds the partition's row meanwhile, and whoever takes it over passes over
-- rows that are held: so one of the two comes first, and the other sees it.
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
        RAISE EXCEPTION 'the lease of worker % is over', token
        USING ERRCODE = 'IND05';
    END IF;
    -- A worker that is stopped in the middle of its transaction would hold the row for ever.
    PERFORM set_config(
        'idle_in_transaction_session_timeout', ceil(greatest(lease, 1) * 1000)::text, true
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_fence(bigint, smallint, bigint) IS
    'Raises IND05 where others have taken over, and keeps them from it until the transaction ends.';

CREATE OR REPLACE FUNCTION indelible.projection_advance(
    projection_id bigint,
    partition smallint,
    token bigint,
    after_position bigint,
    upto_position bigint,
    events bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    stands_at bigint;
BEGIN
    PERFORM indelible.ensure_epoch();
    UPDATE indelible.projection_partitions
    SET position = upto_position, handled = handled + events, epoch = indelible.epoch(),
        expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
        attempts = 0, error = NULL, error_position = NULL, updated_at = clock_timestamp()
    WHERE projection_id = projection_advance.projection_id
        AND partition = projection_advance.partition
        AND token = projection_advance.token
        AND position = after_position;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT position INTO stands_at
    FROM indelible.projection_partitions
    WHERE projection_id = projection_advance.projection_id
        AND partition = projection_advance.partition
        AND token = projection_advance.token;
    IF stands_at IS NULL THEN
        RAISE EXCEPTION 'the lease of worker % is over', token
        USING ERRCODE = 'IND05';
    END IF;
    IF stands_at <> upto_position THEN
        RAISE EXCEPTION 'partition % stands at position %, and neither at % nor at %',
            partition, stands_at, after_position, upto_position
        USING ERRCODE = 'IND05';
    END IF;
    -- The same call once more, after an answer that was lost with the connection.
    RETURN false;
END
$$;
COMMENT ON FUNCTION indelible.projection_advance(bigint, smallint, bigint, bigint, bigint, bigint) IS
    'Moves a checkpoint, in the transaction of the state. False where it was moved before; raises IND05 where others have taken over.';

CREATE OR REPLACE FUNCTION indelible.projection_store_documents(
    projection_id bigint, changed jsonb, removed text[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO indelible.projection_documents AS stored (projection_id, key, document, position)
    SELECT projection_store_documents.projection_id, given.key, given.document, given.position
    FROM jsonb_to_recordset(changed) AS given (key text, document jsonb, "position" bigint)
    ON CONFLICT ON CONSTRAINT projection_documents_pkey DO UPDATE
    SET document = excluded.document, position = excluded.position;
    IF cardinality(removed) > 0 THEN
        DELETE FROM indelible.projection_documents
        WHERE projection_id = projection_store_documents.projection_id AND key = ANY(removed);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.projection_store_documents(bigint, jsonb, text[]) IS
    'Writes documents, and removes some.';

CREATE OR REPLACE FUNCTION indelible.projection_commit(
    projection_id bigint,
    partition smallint,
    token bigint,
    after_position bigint,
    upto_position bigint,
    events bigint,
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
    -- A crash of the server may undo the last of these: state and checkpoint alike, so that the
    -- same events come again.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF NOT indelible.projection_advance(
        projection_id, partition, token, after_position, upto_position, events
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.projection_store_documents(projection_id, changed, removed);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_commit(bigint, smallint, bigint, bigint, bigint, bigint, jsonb, text[]) IS
    'Writes a batch''s documents and moves the checkpoint, both or neither. False where that was done before; raises IND05 where others have taken over.';

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
            HINT = 'Append events that an inline projection takes in a READ COMMITTED transaction.';
    END IF;
    -- Whoever puts another build in its place holds this lock exclusively meanwhile.
    PERFORM pg_advisory_xact_lock_shared(
        indelible.store_lock_key()::integer, indelible.projection_lock_key(name)
    );
    RETURN QUERY
        SELECT known.id
        FROM indelible.projections AS known
        WHERE known.name = projection_lock_build.name
            AND known.version = projection_lock_build.version
            AND known.state = 'serving'
            AND known.lifecycle = 'inline';
END
$$;
COMMENT ON FUNCTION indelible.projection_lock_build(text, integer) IS
    'The build of an inline projection that serves, and keeps serving until the transaction ends; no row where it is not built yet.';

CREATE OR REPLACE FUNCTION indelible.projection_lock_documents(projection_id bigint, keys text[])
RETURNS TABLE (key text, document jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Locks the rows, in one order so that nobody waits in a circle. A document that is not there
    -- yet gets an empty row at position 0, which projection_write_documents() fills or removes before
    -- the commit. Rows, and not advisory locks: the server's lock table is finite.
    INSERT INTO indelible.projection_documents AS stored (projection_id, key, document, position)
    SELECT projection_lock_documents.projection_id, wanted.key, 'null', 0
    FROM (SELECT DISTINCT given.key FROM unnest(keys) AS given (key)) AS wanted
    ORDER BY wanted.key COLLATE "C"
    ON CONFLICT ON CONSTRAINT projection_documents_pkey DO UPDATE
    SET position = stored.position
    WHERE false;
    -- In a later statement, which sees all that was committed before the locks were had.
    RETURN QUERY
        SELECT stored.key, stored.document
        FROM indelible.projection_documents AS stored
        WHERE stored.projection_id = projection_lock_documents.projection_id
            AND stored.key = ANY(keys)
            AND stored.position > 0;
END
$$;
COMMENT ON FUNCTION indelible.projection_lock_documents(bigint, text[]) IS
    'Some documents, kept from other inline writers until the transaction ends; projection_write_documents() has to follow.';

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
        RAISE EXCEPTION 'projection % is not kept up to date by appends', projection_id
        USING ERRCODE = 'IND04', HINT = 'Its documents move with its checkpoint only.';
    END IF;
    PERFORM indelible.projection_store_documents(projection_id, changed, removed);
END
$$;
COMMENT ON FUNCTION indelible.projection_write_documents(bigint, jsonb, text[]) IS
    'Writes documents of an inline projection, in the transaction of the append.';

CREATE OR REPLACE FUNCTION indelible.projection_worker_heartbeat(
    worker text,
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
#variable_conflict use_column
BEGIN
    PERFORM indelible.ensure_epoch();
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO indelible.projection_workers (name, projections, expires_at)
    VALUES (worker, can_run, clock_timestamp() + make_interval(secs => lease))
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
        WHERE held.owner = worker
        FOR NO KEY UPDATE OF held SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_worker_heartbeat(text, bigint[], double precision, bigint[], smallint[]) IS
    'A sign of life of a process, for itself and for the partitions that it holds; the dead are cleared away.';

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
        SELECT alive.name FROM indelible.projection_workers AS alive
        WHERE alive.name = worker
        FOR NO KEY UPDATE SKIP LOCKED
    );
    UPDATE indelible.projection_partitions AS part
    SET expires_at = clock_timestamp() + make_interval(secs => part.lease_seconds)
    WHERE (part.projection_id, part.partition) IN (
        SELECT held.projection_id, held.partition
        FROM unnest(held_projections, held_partitions) AS given (projection_id, partition)
        JOIN indelible.projection_partitions AS held
            ON held.projection_id = given.projection_id AND held.partition = given.partition
        WHERE held.owner = worker
        FOR NO KEY UPDATE OF held SKIP LOCKED
    );
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_worker_renew_lease(text, double precision, bigint[], smallint[]) IS
    'Renews the leases of a process and of the partitions that it holds, and does nothing else: one that has left does not come back.';

CREATE OR REPLACE FUNCTION indelible.projection_worker_leave(worker text)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM indelible.projection_workers WHERE name = worker
$$;
COMMENT ON FUNCTION indelible.projection_worker_leave(text) IS
    'A process ends, having given back what it held.';

CREATE OR REPLACE FUNCTION indelible.text_unless_erased(why text, "position" bigint)
RETURNS text
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    -- Whoever erases a stream holds its row, then the texts that are noted of its events: either
    -- that has happened, or it waits for this and then finds the text.
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
        ELSE why
    END;
END
$$;
COMMENT ON FUNCTION indelible.text_unless_erased(text, bigint) IS
    'The text of an error at an event, which may repeat what the event held; another one where that was erased. Keeps erasures waiting until the transaction ends.';

CREATE OR REPLACE FUNCTION indelible.projection_record_failure(
    projection_id bigint,
    partition smallint,
    token bigint,
    why text,
    "position" bigint,
    attempts integer,
    wait double precision,
    is_final boolean
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    -- First, as an erasure does: the stream before the partition.
    told constant text := indelible.text_unless_erased(why, projection_record_failure.position);
BEGIN
    UPDATE indelible.projection_partitions
    SET attempts = projection_record_failure.attempts,
        not_before = clock_timestamp() + make_interval(secs => wait),
        is_stopped = is_final, error = told, error_position = projection_record_failure.position,
        updated_at = clock_timestamp()
    WHERE projection_id = projection_record_failure.projection_id
        AND partition = projection_record_failure.partition
        AND token = projection_record_failure.token
        AND position < coalesce(projection_record_failure.position, position + 1);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', token
        USING ERRCODE = 'IND05';
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.projection_record_failure(bigint, smallint, bigint, text, bigint, integer, double precision, boolean) IS
    'Notes that a batch failed so many times: tried again after some seconds, or stopped. Raises IND05 where others have taken over, or the event is taken in after all.';

CREATE OR REPLACE FUNCTION indelible.projection_park(
    projection_id bigint, partition smallint, token bigint, why text, "position" bigint
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    told constant text := indelible.text_unless_erased(why, projection_park.position);
BEGIN
    UPDATE indelible.projection_partitions
    SET attempts = 0, not_before = '-infinity', error = NULL, error_position = NULL,
        updated_at = clock_timestamp()
    WHERE projection_id = projection_park.projection_id
        AND partition = projection_park.partition
        AND token = projection_park.token
        AND position < projection_park.position;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', token
        USING ERRCODE = 'IND05';
    END IF;
    INSERT INTO indelible.projection_parked (projection_id, position, partition, error)
    VALUES (projection_id, position, partition, told)
    ON CONFLICT ON CONSTRAINT projection_parked_pkey DO UPDATE SET error = excluded.error;
END
$$;
COMMENT ON FUNCTION indelible.projection_park(bigint, smallint, bigint, text, bigint) IS
    'Leaves an event out from now on. Raises IND05 where others have taken over, or the event is taken in after all.';

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
        FROM indelible.projections AS known
        WHERE part.projection_id = known.id
            AND known.name = projection_restart.name
            AND part.is_stopped
        RETURNING part.partition
    )
    SELECT count(*) FROM restarted
$$;
COMMENT ON FUNCTION indelible.projection_restart(text) IS
    'Lets what is stopped be tried again; how many partitions.';

CREATE OR REPLACE FUNCTION indelible.projection_discard(name text, "position" bigint)
RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH discarded AS (
        UPDATE indelible.projection_parked AS parked
        SET discarded_at = clock_timestamp()
        FROM indelible.projections AS known
        WHERE parked.projection_id = known.id AND known.name = projection_discard.name
            AND parked.discarded_at IS NULL
            AND coalesce(parked.position = projection_discard.position, true)
        RETURNING parked.position
    )
    SELECT count(DISTINCT position) FROM discarded
$$;
COMMENT ON FUNCTION indelible.projection_discard(text, bigint) IS
    'Gives up what was left out: one event, or all; how many.';

CREATE OR REPLACE FUNCTION indelible.projection_start_rebuild(name text, version integer)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found bigint;
    served indelible.projections;
BEGIN
    -- Not the lock of appends, behind which they would queue up.
    PERFORM indelible.projection_lock(name, indelible.projection_build_lock_key(name), 20);
    SELECT id INTO found
    FROM indelible.projections
    WHERE name = projection_start_rebuild.name
        AND version = projection_start_rebuild.version
        AND state = 'building';
    IF found IS NOT NULL THEN
        UPDATE indelible.projection_partitions
        SET is_stopped = false, attempts = 0, not_before = '-infinity'
        WHERE projection_id = found AND is_stopped;
        RETURN found;
    END IF;
    SELECT * INTO STRICT served
    FROM indelible.projections
    WHERE name = projection_start_rebuild.name
        AND version = projection_start_rebuild.version
        AND state = 'serving';
    RETURN indelible.projection_create_build(
        name, version, served.kind, served.lifecycle, 'building', served.query,
        served.partitions, served.indexes
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_start_rebuild(text, integer) IS
    'Begins a build beside the one that serves, or lets the one that was begun before go on.';

CREATE OR REPLACE FUNCTION indelible.projection_force_lease(projection_id bigint)
RETURNS TABLE (partition smallint, token bigint, "position" bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Appends that bring the projection up to date hold this lock shared until they have
    -- committed: what they stored is visible to the statements after this one, and the next wait.
    PERFORM indelible.projection_lock(known.name, indelible.projection_lock_key(known.name), 1)
    FROM indelible.projections AS known
    WHERE known.id = projection_force_lease.projection_id;
    -- They are not to wait for a process that is stopped in the middle.
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    RETURN QUERY
        UPDATE indelible.projection_partitions AS part
        SET token = part.token + 1, owner = NULL, expires_at = '-infinity'
        FROM indelible.projections AS known
        WHERE known.id = projection_force_lease.projection_id AND known.state = 'building'
            AND part.projection_id = known.id
        RETURNING part.partition, part.token, part.position;
END
$$;
COMMENT ON FUNCTION indelible.projection_force_lease(bigint) IS
    'Holds up appends to an inline projection, and takes all partitions of a build, for the transaction in which it is to serve.';

CREATE OR REPLACE FUNCTION indelible.projection_cut_over(projection_id bigint)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Whoever calls this gives signs of life by the same thread: it is not to be held up for long.
SET lock_timeout = '200ms'
AS $$
#variable_conflict use_column
DECLARE
    built indelible.projections;
    old_one bigint;
    target bigint;
BEGIN
    BEGIN
        PERFORM indelible.projection_lock(name, indelible.projection_lock_key(name), 1)
        FROM indelible.projections
        WHERE id = projection_cut_over.projection_id;
        SELECT * INTO built
        FROM indelible.projections
        WHERE id = projection_cut_over.projection_id
        FOR NO KEY UPDATE;
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
    WHERE name = built.name AND version = built.version AND state = 'serving';
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
    'Has a build serve in the place of the one before, once it is as far; whether it does.';

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
    'Ends a version of a projection; how many builds that were.';

CREATE OR REPLACE FUNCTION indelible.projection_drop_retired()
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
COMMENT ON FUNCTION indelible.projection_drop_retired() IS
    'Drops what retired builds have left; how many of them are kept, since somebody is still at it.';
