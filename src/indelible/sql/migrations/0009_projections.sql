-- Projections: read models kept up to date from events. docs/explanation/projections.md tells why
-- state and checkpoint never part, whoever dies when.

CREATE TABLE indelible.projections (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    lifecycle text NOT NULL,
    state text NOT NULL,
    query jsonb NOT NULL,
    partitions smallint NOT NULL,
    indexes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    served_at timestamptz,
    retired_at timestamptz,
    CONSTRAINT projections_pkey PRIMARY KEY (id),
    CONSTRAINT projections_name_length CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT projections_kind CHECK (kind IN ('documents', 'tables', 'external')),
    CONSTRAINT projections_lifecycle CHECK (lifecycle IN ('inline', 'async')),
    CONSTRAINT projections_state CHECK (state IN ('building', 'serving', 'retired'))
);
CREATE UNIQUE INDEX projections_serving_index ON indelible.projections (name, version)
WHERE state = 'serving';
CREATE UNIQUE INDEX projections_building_index ON indelible.projections (name, version)
WHERE state = 'building';
COMMENT ON TABLE indelible.projections IS
    'One row a build of a projection: one that serves, and one beside it while it is built anew.';
COMMENT ON SEQUENCE indelible.projections_id_seq IS 'Hands out projections.id.';
COMMENT ON COLUMN indelible.projections.id IS 'A short name for the build inside the database.';
COMMENT ON COLUMN indelible.projections.name IS 'The projection''s name.';
COMMENT ON COLUMN indelible.projections.version IS
    'The version of its code: another one is another state.';
COMMENT ON COLUMN indelible.projections.kind IS
    'Where its state is: documents: in projection_documents; tables: in tables of the application; external: elsewhere.';
COMMENT ON COLUMN indelible.projections.lifecycle IS
    'inline: brought up to date by each append; async: by processes that follow the log.';
COMMENT ON COLUMN indelible.projections.state IS
    'building: not to be read yet; serving: what is read; retired: read no more.';
COMMENT ON COLUMN indelible.projections.query IS 'The items of its query.';
COMMENT ON COLUMN indelible.projections.partitions IS 'How many parts are kept up to date side by side.';
COMMENT ON COLUMN indelible.projections.indexes IS 'The fields of its documents that have an index.';
COMMENT ON COLUMN indelible.projections.created_at IS 'When it was begun.';
COMMENT ON COLUMN indelible.projections.served_at IS 'When it began to serve.';
COMMENT ON COLUMN indelible.projections.retired_at IS 'When it ceased to serve.';

CREATE TABLE indelible.projection_partitions (
    projection_id bigint NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    epoch uuid NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    owner text,
    lease_seconds double precision NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    handled bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    is_stopped boolean NOT NULL DEFAULT false,
    error text,
    error_position bigint,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT projection_partitions_pkey PRIMARY KEY (projection_id, partition),
    CONSTRAINT projection_partitions_projection_fkey
        FOREIGN KEY (projection_id) REFERENCES indelible.projections ON DELETE CASCADE
)
-- Every batch updates one row in place.
WITH (fillfactor = 50);
COMMENT ON TABLE indelible.projection_partitions IS
    'The parts of a projection: how far each is, and whose it is.';
COMMENT ON COLUMN indelible.projection_partitions.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_partitions.partition IS
    'The number of the part: 0 to projections.partitions - 1.';
COMMENT ON COLUMN indelible.projection_partitions.position IS
    'The checkpoint: up to here its events are in its state.';
COMMENT ON COLUMN indelible.projection_partitions.epoch IS
    'The history of the store that the checkpoint is of.';
COMMENT ON COLUMN indelible.projection_partitions.token IS
    'The fencing token: what is written under an older one does not count. Grows with each lease.';
COMMENT ON COLUMN indelible.projection_partitions.owner IS
    'Who keeps it up to date: host and process, for people; null for nobody.';
COMMENT ON COLUMN indelible.projection_partitions.lease_seconds IS
    'How long its owner''s lease lasts from each sign of life.';
COMMENT ON COLUMN indelible.projection_partitions.expires_at IS
    'When its owner is taken for dead.';
COMMENT ON COLUMN indelible.projection_partitions.handled IS 'How many events it has taken in.';
COMMENT ON COLUMN indelible.projection_partitions.attempts IS
    'How often the next batch has failed.';
COMMENT ON COLUMN indelible.projection_partitions.not_before IS 'When it may be tried again.';
COMMENT ON COLUMN indelible.projection_partitions.is_stopped IS
    'Whether it waits for an operator.';
COMMENT ON COLUMN indelible.projection_partitions.error IS 'The text of the last error.';
COMMENT ON COLUMN indelible.projection_partitions.error_position IS
    'The event that it failed at; null where no single one is to blame.';
COMMENT ON COLUMN indelible.projection_partitions.updated_at IS 'When this row was written last.';

CREATE TABLE indelible.projection_parked (
    projection_id bigint NOT NULL,
    position bigint NOT NULL,
    partition smallint NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT projection_parked_pkey PRIMARY KEY (projection_id, position, partition),
    CONSTRAINT projection_parked_projection_fkey
        FOREIGN KEY (projection_id) REFERENCES indelible.projections ON DELETE CASCADE
);
COMMENT ON TABLE indelible.projection_parked IS
    'The events that a projection leaves out, since its code failed at them.';
COMMENT ON COLUMN indelible.projection_parked.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_parked.position IS 'The event: events.position.';
COMMENT ON COLUMN indelible.projection_parked.partition IS 'The part that leaves it out.';
COMMENT ON COLUMN indelible.projection_parked.error IS 'The text of the error.';
COMMENT ON COLUMN indelible.projection_parked.parked_at IS 'When it was parked.';

CREATE TABLE indelible.projection_documents (
    projection_id bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT projection_documents_pkey PRIMARY KEY (projection_id, key)
)
PARTITION BY LIST (projection_id);
COMMENT ON TABLE indelible.projection_documents IS
    'The documents of projections; each build has a table of its own, documents_ID, that is attached here.';
COMMENT ON COLUMN indelible.projection_documents.projection_id IS 'The build: projections.id.';
COMMENT ON COLUMN indelible.projection_documents.key IS 'What the document is about.';
COMMENT ON COLUMN indelible.projection_documents.document IS 'The document.';
COMMENT ON COLUMN indelible.projection_documents.position IS
    'The last event that changed it: events.position.';

CREATE VIEW indelible.documents AS
SELECT
    served.name AS projection,
    served.version,
    documents.key,
    documents.document,
    documents.position
FROM (
    SELECT DISTINCT ON (name) name, version, id
    FROM indelible.projections
    WHERE state = 'serving' AND kind = 'documents'
    ORDER BY name, version DESC
) AS served
JOIN indelible.projection_documents AS documents ON documents.projection_id = served.id;
COMMENT ON VIEW indelible.documents IS
    'The documents of every projection, of the newest version that serves: WHERE projection = ''orders''.';


-- What there is ---------------------------------------------------------------------------------

CREATE FUNCTION indelible.projection_key(of_name text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext('projection ' || of_name COLLATE "C");
COMMENT ON FUNCTION indelible.projection_key(text) IS
    'The second key of a projection''s advisory lock; the first is the store''s number.';

CREATE FUNCTION indelible.projection_begin_key(of_name text)
RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN hashtext('projection begins ' || of_name COLLATE "C");
COMMENT ON FUNCTION indelible.projection_begin_key(text) IS
    'The second key of the advisory lock under which a build is begun, which appends do not take.';

CREATE FUNCTION indelible.projection_try_lock(of_key integer)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- All that come later queue up behind a lock that is waited for.
SET lock_timeout = '200ms'
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(indelible.lock_number()::integer, of_key);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION indelible.projection_try_lock(integer) IS
    'Takes the advisory lock of a projection_key() until the transaction ends, waiting a fifth of a second at most; whether it has it.';

CREATE FUNCTION indelible.projection_lock(of_name text, of_key integer, attempts integer)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    holders text;
BEGIN
    FOR attempt IN 1..attempts LOOP
        IF indelible.projection_try_lock(of_key) THEN
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
        AND holding.classid::bigint = indelible.lock_number()
        AND holding.objid::bigint = of_key::bigint & 4294967295
        AND holding.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RAISE EXCEPTION 'projection % is kept as it is by %', of_name,
        coalesce(holders, 'transactions that have just ended')
    USING ERRCODE = 'lock_not_available', HINT = 'Try again once these have ended.';
END
$$;
COMMENT ON FUNCTION indelible.projection_lock(text, integer, integer) IS
    'As projection_try_lock(), so many times; raises lock_not_available, which names the holders.';

CREATE FUNCTION indelible.projection_begin(
    of_name text,
    of_version integer,
    of_kind text,
    of_lifecycle text,
    in_state text,
    items jsonb,
    in_partitions smallint,
    index_fields text[]
)
RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    made bigint;
    field text;
BEGIN
    INSERT INTO indelible.projections
        (name, version, kind, lifecycle, state, query, partitions, indexes, served_at)
    VALUES (
        of_name, of_version, of_kind, of_lifecycle, in_state, items, in_partitions, index_fields,
        CASE WHEN in_state = 'serving' THEN clock_timestamp() END
    )
    RETURNING id INTO made;
    INSERT INTO indelible.projection_partitions (projection_id, partition, epoch)
    SELECT made, number, indelible.epoch()
    FROM generate_series(0, in_partitions - 1) AS parts (number);
    IF of_kind = 'documents' THEN
        -- Made first and attached then, which lets readers and writers of the others go on.
        EXECUTE format(
            'CREATE TABLE indelible.%I (LIKE indelible.projection_documents INCLUDING ALL)'
            ' WITH (fillfactor = 70)',
            'documents_' || made
        );
        EXECUTE format(
            'COMMENT ON TABLE indelible.%I IS %L',
            'documents_' || made,
            format('The documents of projection %s, version %s.', of_name, of_version)
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
COMMENT ON FUNCTION indelible.projection_begin(text, integer, text, text, text, jsonb, smallint, text[]) IS
    'Begins a build at the beginning of the log: its row, its partitions, and the table of its documents.';

CREATE FUNCTION indelible.projection_register(
    of_name text,
    of_version integer,
    of_kind text,
    of_lifecycle text,
    items jsonb,
    in_partitions smallint,
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
        WHERE known.name = of_name AND known.version = of_version AND known.state <> 'retired'
    ) THEN
        -- Before the lock: where there is none it reads the whole log, and nobody is to wait for that.
        has_events := of_lifecycle = 'inline' AND EXISTS (
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
        PERFORM indelible.projection_lock(of_name, indelible.projection_begin_key(of_name), 20);
    END IF;
    -- In a later statement, which sees what was begun before the lock was had.
    IF NOT EXISTS (
        SELECT FROM indelible.projections AS known
        WHERE known.name = of_name AND known.version = of_version AND known.state <> 'retired'
    ) THEN
        begins_as := CASE
            -- What serves goes on until this one is as far.
            WHEN EXISTS (
                SELECT FROM indelible.projections AS other
                WHERE other.name = of_name AND other.state = 'serving'
            ) THEN 'building'
            -- Appends bring it on from now on only: what there is has to be built first.
            WHEN of_lifecycle = 'inline' AND has_events IS DISTINCT FROM false THEN 'building'
            ELSE 'serving'
        END;
        PERFORM indelible.projection_begin(
            of_name, of_version, of_kind, of_lifecycle, begins_as, items, in_partitions,
            index_fields
        );
    END IF;
    RETURN QUERY
        SELECT known.id, known.state, known.lifecycle,
            known.kind = of_kind AND known.query = items AND known.partitions = in_partitions
                AND known.indexes = index_fields
        FROM indelible.projections AS known
        WHERE known.name = of_name AND known.version = of_version AND known.state <> 'retired'
        ORDER BY known.state DESC;
END
$$;
COMMENT ON FUNCTION indelible.projection_register(text, integer, text, text, jsonb, smallint, text[]) IS
    'Begins a projection that is not there, and gives its builds, the one that serves first: whether each is as described.';


CREATE FUNCTION indelible.projection_served(of_name text, of_version integer, settled bigint)
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
        WHERE known.name = of_name AND known.version = of_version AND known.state = 'serving';
END
$$;
COMMENT ON FUNCTION indelible.projection_served(text, integer, bigint) IS
    'The build of a projection that serves, and its checkpoint, given a head that was asked for before; no row where there is none.';

-- The head comes from a statement before the one that reads: all that it covers is visible there.
-- The other way round a reader would be told a checkpoint that is newer than its documents.
CREATE FUNCTION indelible.documents_read(of_name text, of_version integer, keys text[])
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
        FROM indelible.projection_served(of_name, of_version, settled) AS served
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = served.id
                AND documents.key = ANY(keys)
        ) AS found ON true
        ORDER BY found.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_read(text, integer, text[]) IS
    'Documents of a version by their keys, its checkpoint and the head; one row without a document where there is none, no row where the version does not serve.';

CREATE FUNCTION indelible.documents_all(
    of_name text, of_version integer, after_key text, at_most bigint
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
        FROM indelible.projection_served(of_name, of_version, settled) AS served
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = served.id
                AND documents.key > after_key
            ORDER BY documents.key
            LIMIT at_most
        ) AS found ON true
        ORDER BY found.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_all(text, integer, text, bigint) IS
    'Documents of a version in order of key; its checkpoint and the head; rows as of documents_read().';

CREATE FUNCTION indelible.documents_find(
    of_name text,
    of_version integer,
    by_field text,
    value jsonb,
    fields jsonb,
    after_key text,
    at_most bigint
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
        FROM indelible.projection_served(of_name, of_version, settled) AS served
        LEFT JOIN LATERAL (
            SELECT documents.key, documents.document
            FROM indelible.projection_documents AS documents
            WHERE documents.projection_id = served.id
                AND documents.key > after_key
                -- One field by its index, if it has one; then all of them.
                AND documents.document -> by_field = value
                AND NOT EXISTS (
                    SELECT
                    FROM jsonb_each(fields) AS wanted
                    WHERE documents.document -> wanted.key IS DISTINCT FROM wanted.value
                )
            ORDER BY documents.key
            LIMIT at_most
        ) AS found ON true
        ORDER BY found.key;
END
$$;
COMMENT ON FUNCTION indelible.documents_find(text, integer, text, jsonb, jsonb, text, bigint) IS
    'Documents of a version by the values of their fields, in order of key; its checkpoint and the head; rows as of documents_read().';


-- Following the log: leases and checkpoints -----------------------------------------------------

CREATE FUNCTION indelible.projection_lease(
    of_projection bigint, in_partition smallint, to_owner text, lease double precision
)
RETURNS TABLE (token bigint, "position" bigint, epoch uuid)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM indelible.check_epoch();
    -- An inline one that serves is brought on by appends: others would count twice. It cannot begin
    -- to serve between this look and the lease; where it is about to, it is not leased now.
    IF (SELECT lifecycle FROM indelible.projections WHERE projections.id = of_projection) = 'inline'
    THEN
        PERFORM
        FROM indelible.projections AS known
        WHERE known.id = of_projection AND known.state <> 'serving'
        FOR SHARE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    RETURN QUERY
        UPDATE indelible.projection_partitions AS part
        SET token = part.token + 1, owner = to_owner, lease_seconds = lease,
            expires_at = clock_timestamp() + make_interval(secs => lease),
            updated_at = clock_timestamp()
        WHERE (part.projection_id, part.partition) IN (
            -- One whose owner is at the commit has an owner, whatever its lease says.
            SELECT free.projection_id, free.partition
            FROM indelible.projection_partitions AS free
            WHERE free.projection_id = of_projection AND free.partition = in_partition
                AND free.expires_at <= clock_timestamp()
            FOR UPDATE SKIP LOCKED
        )
        RETURNING part.token, part.position, part.epoch;
END
$$;
COMMENT ON FUNCTION indelible.projection_lease(bigint, smallint, text, double precision) IS
    'Takes a partition that nobody holds, under a token higher than all before; no row where somebody does.';

CREATE FUNCTION indelible.projection_beat(
    of_projection bigint, in_partition smallint, of_token bigint
)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stands_at bigint;
BEGIN
    PERFORM indelible.check_epoch();
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_partitions
    SET expires_at = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
    RETURNING position INTO stands_at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', of_token
        USING ERRCODE = 'IND05';
    END IF;
    RETURN stands_at;
END
$$;
COMMENT ON FUNCTION indelible.projection_beat(bigint, smallint, bigint) IS
    'Renews a lease, and says where the checkpoint stands. Raises IND05 where others have taken over.';

CREATE FUNCTION indelible.projection_renew_lease(
    of_projection bigint, in_partition smallint, of_token bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE indelible.projection_partitions AS part
    SET expires_at = clock_timestamp() + make_interval(secs => part.lease_seconds)
    WHERE (part.projection_id, part.partition) IN (
        -- One that is locked is at a commit, which renews its lease.
        SELECT held.projection_id, held.partition
        FROM indelible.projection_partitions AS held
        WHERE held.projection_id = of_projection AND held.partition = in_partition
            -- One without an owner was given back under this token.
            AND held.token = of_token AND held.owner IS NOT NULL
        FOR NO KEY UPDATE SKIP LOCKED
    );
    RETURN FOUND OR EXISTS (
        SELECT FROM indelible.projection_partitions
        WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
            AND owner IS NOT NULL
    );
END
$$;
COMMENT ON FUNCTION indelible.projection_renew_lease(bigint, smallint, bigint) IS
    'Renews a lease and does nothing else, and never waits; says whether others have not taken over.';

CREATE FUNCTION indelible.projection_release(
    of_projection bigint, in_partition smallint, of_token bigint
)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE indelible.projection_partitions
    SET owner = NULL, expires_at = '-infinity'
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
$$;
COMMENT ON FUNCTION indelible.projection_release(bigint, smallint, bigint) IS
    'Gives a partition back, for the next to take at once.';

-- Whoever writes state holds the partition's row meanwhile, and whoever takes it over passes over
-- rows that are held: so one of the two comes first, and the other sees it.
CREATE FUNCTION indelible.projection_fence(
    of_projection bigint, in_partition smallint, of_token bigint
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lease double precision;
BEGIN
    PERFORM indelible.check_epoch();
    SELECT lease_seconds INTO lease
    FROM indelible.projection_partitions
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of worker % is over', of_token
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

CREATE FUNCTION indelible.projection_advance(
    of_projection bigint,
    in_partition smallint,
    of_token bigint,
    after_position bigint,
    upto_position bigint,
    events bigint
)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stands_at bigint;
BEGIN
    PERFORM indelible.check_epoch();
    UPDATE indelible.projection_partitions
    SET position = upto_position, handled = handled + events, epoch = indelible.epoch(),
        expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
        attempts = 0, error = NULL, error_position = NULL, updated_at = clock_timestamp()
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token
        AND position = after_position;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT position INTO stands_at
    FROM indelible.projection_partitions
    WHERE projection_id = of_projection AND partition = in_partition AND token = of_token;
    IF stands_at IS NULL THEN
        RAISE EXCEPTION 'the lease of worker % is over', of_token
        USING ERRCODE = 'IND05';
    END IF;
    IF stands_at <> upto_position THEN
        RAISE EXCEPTION 'partition % stands at position %, and neither at % nor at %',
            in_partition, stands_at, after_position, upto_position
        USING ERRCODE = 'IND05';
    END IF;
    -- The same call once more, after an answer that was lost with the connection.
    RETURN false;
END
$$;
COMMENT ON FUNCTION indelible.projection_advance(bigint, smallint, bigint, bigint, bigint, bigint) IS
    'Moves a checkpoint, in the transaction of the state. False where it was moved before; raises IND05 where others have taken over.';

CREATE FUNCTION indelible.projection_store(of_projection bigint, changed jsonb, removed text[])
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO indelible.projection_documents AS stored (projection_id, key, document, position)
    SELECT of_projection, given.key, given.document, given.position
    FROM jsonb_to_recordset(changed) AS given (key text, document jsonb, "position" bigint)
    ON CONFLICT ON CONSTRAINT projection_documents_pkey DO UPDATE
    SET document = excluded.document, position = excluded.position;
    IF cardinality(removed) > 0 THEN
        DELETE FROM indelible.projection_documents
        WHERE projection_id = of_projection AND key = ANY(removed);
    END IF;
END
$$;
COMMENT ON FUNCTION indelible.projection_store(bigint, jsonb, text[]) IS
    'Writes documents, and removes some.';

CREATE FUNCTION indelible.projection_commit(
    of_projection bigint,
    in_partition smallint,
    of_token bigint,
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
BEGIN
    -- A crash of the server may undo the last of these: state and checkpoint alike, so that the
    -- same events come again.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF NOT indelible.projection_advance(
        of_projection, in_partition, of_token, after_position, upto_position, events
    ) THEN
        RETURN false;
    END IF;
    PERFORM indelible.projection_store(of_projection, changed, removed);
    RETURN true;
END
$$;
COMMENT ON FUNCTION indelible.projection_commit(bigint, smallint, bigint, bigint, bigint, bigint, jsonb, text[]) IS
    'Writes a batch''s documents and moves the checkpoint, both or neither. False where that was done before; raises IND05 where others have taken over.';


-- Inline: in the transaction of the append ------------------------------------------------------

CREATE FUNCTION indelible.projection_hold(of_name text, of_version integer)
RETURNS TABLE (id bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'inline projection % cannot be brought up to date in a % transaction: its snapshot may be older than the documents',
            of_name, current_setting('transaction_isolation')
        USING ERRCODE = 'IND02',
            HINT = 'Append events that an inline projection takes in a READ COMMITTED transaction.';
    END IF;
    -- Whoever puts another build in its place holds this lock exclusively meanwhile.
    PERFORM pg_advisory_xact_lock_shared(
        indelible.lock_number()::integer, indelible.projection_key(of_name)
    );
    RETURN QUERY
        SELECT known.id
        FROM indelible.projections AS known
        WHERE known.name = of_name AND known.version = of_version AND known.state = 'serving'
            AND known.lifecycle = 'inline';
END
$$;
COMMENT ON FUNCTION indelible.projection_hold(text, integer) IS
    'The build of an inline projection that serves, and keeps serving until the transaction ends; no row where it is not built yet.';

CREATE FUNCTION indelible.projection_take(of_projection bigint, keys text[])
RETURNS TABLE (key text, document jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Locks the rows, in one order so that nobody waits in a circle. A document that is not there
    -- yet gets an empty row at position 0, which projection_put() fills or removes before the
    -- commit. Rows, and not advisory locks: the server's lock table is finite.
    INSERT INTO indelible.projection_documents AS stored (projection_id, key, document, position)
    SELECT of_projection, wanted.key, 'null', 0
    FROM (SELECT DISTINCT given.key FROM unnest(keys) AS given (key)) AS wanted
    ORDER BY wanted.key COLLATE "C"
    ON CONFLICT ON CONSTRAINT projection_documents_pkey DO UPDATE
    SET position = stored.position
    WHERE false;
    -- In a later statement, which sees all that was committed before the locks were had.
    RETURN QUERY
        SELECT stored.key, stored.document
        FROM indelible.projection_documents AS stored
        WHERE stored.projection_id = of_projection AND stored.key = ANY(keys)
            AND stored.position > 0;
END
$$;
COMMENT ON FUNCTION indelible.projection_take(bigint, text[]) IS
    'Some documents, kept from other inline writers until the transaction ends; projection_put() has to follow.';

CREATE FUNCTION indelible.projection_put(of_projection bigint, changed jsonb, removed text[])
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM indelible.projections WHERE id = of_projection AND lifecycle = 'inline'
    ) THEN
        RAISE EXCEPTION 'projection % is not kept up to date by appends', of_projection
        USING ERRCODE = 'IND04', HINT = 'Its documents move with its checkpoint only.';
    END IF;
    PERFORM indelible.projection_store(of_projection, changed, removed);
END
$$;
COMMENT ON FUNCTION indelible.projection_put(bigint, jsonb, text[]) IS
    'Writes documents of an inline projection, in the transaction of the append.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA indelible FROM PUBLIC;
