-- No rows. Resets a store that tests have used. The session setting testing.schema names the store;
-- testing.tables and testing.sequences hold the results of template.sql. Tables that had rows in
-- the new store are not changed. Only the owner of a store may disable the triggers that reject
-- TRUNCATE.
DO $$
DECLARE
    schema constant text := current_setting('testing.schema');
    kept constant jsonb := current_setting('testing.tables');
    filled record;
    guard record;
    free record;
BEGIN
    FOR filled IN
        SELECT tables.oid, tables.oid::regclass AS name
        FROM pg_class AS tables
        WHERE tables.relnamespace = schema::regnamespace
            AND tables.relkind = 'r'
            AND pg_relation_size(tables.oid) > 0
            AND NOT kept ? tables.relname
    LOOP
        FOR guard IN
            SELECT triggers.tgname AS name
            FROM pg_trigger AS triggers
            WHERE triggers.tgrelid = filled.oid AND NOT triggers.tgisinternal
                AND triggers.tgenabled = 'A'
        LOOP
            EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', filled.name, guard.name);
        END LOOP;
        -- New files for a table and its indexes take longer than a few rows, which vacuum clears.
        IF pg_relation_size(filled.oid) > 1000000 THEN
            EXECUTE format('TRUNCATE ONLY %s CASCADE', filled.name);
        ELSE
            EXECUTE format('DELETE FROM ONLY %s', filled.name);
        END IF;
        FOR guard IN
            SELECT triggers.tgname AS name
            FROM pg_trigger AS triggers
            WHERE triggers.tgrelid = filled.oid AND triggers.tgenabled = 'D'
        LOOP
            EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', filled.name, guard.name);
        END LOOP;
    END LOOP;
    FOR free IN
        SELECT made.key AS name, made.value::bigint AS last_value
        FROM jsonb_each_text(current_setting('testing.sequences')::jsonb) AS made
    LOOP
        PERFORM setval(
            format('%I.%I', schema, free.name)::regclass,
            coalesce(free.last_value, 1),
            free.last_value IS NOT NULL
        );
    END LOOP;
END
$$
