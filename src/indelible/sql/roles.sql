-- Makes the roles of a store, which log in through others: GRANT … TO your_login_role.
DO $do$
DECLARE
    reader constant text := current_schema || '_reader';
    writer constant text := current_schema || '_writer';
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[reader, writer] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA indelible TO %I, %I', reader, writer);
    EXECUTE format('GRANT %I TO %I', reader, writer);
    EXECUTE format(
        'GRANT SELECT ON indelible.recorded_events, indelible.recorded_streams TO %I', reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.head(), indelible.size(), indelible.schema_version() TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.append(text, text, bigint, jsonb), indelible.append_many(jsonb) TO %I',
        writer
    );
END
$do$
