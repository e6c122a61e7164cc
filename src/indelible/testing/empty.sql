-- Nothing. Makes a store that tests have used as it was when it was new: of the settings of this
-- session, testing.schema names it, testing.tables and testing.sequences say what as_made.sql did.
-- Tables that held something then stay as they are. The owner of a store may switch off what
-- refuses this; no other role can.
DO $$
DECLARE
    schema constant text := current_setting('testing.schema');
    kept constant jsonb := current_setting('testing.tables');
    filled record;
    guard record;
    free record;
    is_filled boolean;
BEGIN
    FOR filled IN
        SELECT tables.oid, tables.oid::regclass AS name
        FROM pg_class AS tables
        WHERE tables.relnamespace = schema::regnamespace
            AND tables.relkind = 'r'
            AND NOT kept ? tables.relname
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s)', filled.name) INTO is_filled;
        CONTINUE WHEN NOT is_filled;
        FOR guard IN
            SELECT triggers.tgname AS name
            FROM pg_trigger AS triggers
            WHERE triggers.tgrelid = filled.oid AND NOT triggers.tgisinternal
                AND triggers.tgenabled = 'A'
        LOOP
            EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', filled.name, guard.name);
        END LOOP;
        EXECUTE format('TRUNCATE ONLY %s RESTART IDENTITY CASCADE', filled.name);
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
