-- The state of a store, and what a copy or a manual change may have broken.

CREATE OR REPLACE FUNCTION indelible.last_migration()
RETURNS integer
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(version) FROM indelible.migrations
$$;
COMMENT ON FUNCTION indelible.last_migration() IS
    'The number of the last applied migration. A library compares it with its own.';

CREATE OR REPLACE FUNCTION indelible.last_function_set()
RETURNS integer
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(number) FROM indelible.function_sets
$$;
COMMENT ON FUNCTION indelible.last_function_set() IS
    'The number of the store''s function set. A library compares it with its own.';

CREATE OR REPLACE FUNCTION indelible.size(OUT last_position bigint, OUT bytes bigint)
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        (SELECT last_value FROM indelible.events_position),
        pg_total_relation_size('indelible.events')
            + pg_total_relation_size('indelible.archived_events')
            + pg_total_relation_size('indelible.streams')
$$;
COMMENT ON FUNCTION indelible.size() IS
    'The last assigned position, and the size of tables and indexes on disk.';

CREATE OR REPLACE FUNCTION indelible.store_problem(
    events_table regclass, OUT problem text, OUT subject text, OUT number bigint
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Functions contain the name that the schema had when the store was created.
    IF events_table IS DISTINCT FROM to_regclass('indelible.events') THEN
        problem := 'renamed';
        subject := 'indelible.events';
        RETURN;
    END IF;
    -- Of two stores, only the one that was created later has the problem: it is the copy. The other
    -- one continues without interruption.
    SELECT 'shared number', others.schema_id::regnamespace::text, mine.number
    INTO problem, subject, number
    FROM indelible.store_lock_keys AS mine
    JOIN indelible.store_lock_keys AS others USING (number)
    WHERE mine.function_id = 'indelible.store_lock_key()'::regprocedure
        AND others.function_id < mine.function_id
    ORDER BY others.function_id
    LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    -- With a sequence cache, a session would use positions below those that others have already
    -- taken.
    SELECT 'sequence settings', 'indelible.events_position'
    INTO problem, subject
    FROM pg_sequence
    WHERE seqrelid = 'indelible.events_position'::regclass
        AND (seqcache <> 1 OR seqincrement <> 1 OR seqcycle);
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT 'sequence behind', sequences.name, sequences.used
    INTO problem, subject, number
    FROM (
        SELECT
            'indelible.events_position',
            greatest(
                (SELECT max(position) FROM indelible.events),
                (SELECT max(position) FROM indelible.archived_events),
                0
            ),
            (SELECT last_value + is_called::integer FROM indelible.events_position)
        UNION ALL
        SELECT
            'indelible.streams_id_seq',
            (SELECT max(id) FROM indelible.streams),
            (SELECT last_value + is_called::integer FROM indelible.streams_id_seq)
        UNION ALL
        SELECT
            'indelible.archive_count',
            (SELECT 1 FROM indelible.archived_events LIMIT 1),
            (SELECT last_value + is_called::integer FROM indelible.archive_count)
        UNION ALL
        SELECT
            'indelible.groups_id_seq',
            (SELECT max(id) FROM indelible.groups),
            (SELECT last_value + is_called::integer FROM indelible.groups_id_seq)
        UNION ALL
        SELECT
            'indelible.group_events_number_seq',
            (SELECT max(group_events.number) FROM indelible.group_events),
            (SELECT last_value + is_called::integer FROM indelible.group_events_number_seq)
        UNION ALL
        SELECT
            'indelible.stream_changes_number_seq',
            (SELECT max(stream_changes.number) FROM indelible.stream_changes),
            (SELECT last_value + is_called::integer FROM indelible.stream_changes_number_seq)
        UNION ALL
        SELECT
            'indelible.projections_id_seq',
            (SELECT max(id) FROM indelible.projections),
            (SELECT last_value + is_called::integer FROM indelible.projections_id_seq)
    ) AS sequences (name, used, next)
    WHERE sequences.next <= sequences.used
    LIMIT 1;
END
$$;
COMMENT ON FUNCTION indelible.store_problem(regclass) IS
    'Why the store must not be used: renamed, shared number (with the schema), sequence settings, or sequence behind (a number in use); null if there is no problem. The argument is the table of events in the schema that the caller uses.';

CREATE OR REPLACE FUNCTION indelible.repair_store()
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    broken record;
BEGIN
    LOOP
        SELECT * INTO broken FROM indelible.store_problem('indelible.events'::regclass);
        EXIT WHEN broken.problem IS NULL;
        -- No other session may use the store during the repair.
        LOCK TABLE indelible.append_lock, indelible.events IN ACCESS EXCLUSIVE MODE;
        CASE broken.problem
            WHEN 'shared number' THEN
                PERFORM indelible.choose_store_lock_key();
            WHEN 'sequence settings' THEN
                ALTER SEQUENCE indelible.events_position INCREMENT 1 CACHE 1 NO CYCLE;
            WHEN 'sequence behind' THEN
                PERFORM setval(broken.subject::regclass, broken.number);
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION indelible.repair_store() IS
    'Repairs the problems that store_problem() finds, except a renamed schema. For the owner.';
