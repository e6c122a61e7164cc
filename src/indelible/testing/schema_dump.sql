-- One row: a hash of the definition of a schema: tables with their columns, constraints and
-- triggers, functions, and their privileges.
SELECT md5(string_agg(part.text, E'\n' ORDER BY part.text))
FROM (
    SELECT format('%%s %%s %%s', relations.relname, relations.relkind, relations.relacl) AS text
    FROM pg_class AS relations
    WHERE relations.relnamespace = to_regnamespace(%(schema)s::text)
        AND relations.relkind IN ('r', 'v', 'S', 'i')
    UNION ALL
    SELECT format('%%s %%s %%s', columns.attrelid, columns.attname, columns.atttypid)
    FROM pg_attribute AS columns
    JOIN pg_class AS tables ON tables.oid = columns.attrelid
    WHERE tables.relnamespace = to_regnamespace(%(schema)s::text)
        AND tables.relkind = 'r'
        AND columns.attnum > 0
    UNION ALL
    SELECT format('%%s %%s', constraints.conname, constraints.conrelid)
    FROM pg_constraint AS constraints
    WHERE constraints.connamespace = to_regnamespace(%(schema)s::text)
    UNION ALL
    SELECT format('%%s %%s %%s', triggers.tgrelid, triggers.tgname, triggers.tgenabled)
    FROM pg_trigger AS triggers
    JOIN pg_class AS tables ON tables.oid = triggers.tgrelid
    WHERE tables.relnamespace = to_regnamespace(%(schema)s::text) AND NOT triggers.tgisinternal
    UNION ALL
    SELECT format(
        '%%s %%s %%s %%s %%s', functions.oid, functions.proname, functions.proacl,
        functions.proconfig, md5(functions.prosrc)
    )
    FROM pg_proc AS functions
    WHERE functions.pronamespace = to_regnamespace(%(schema)s::text)
    UNION ALL
    SELECT format('%%s %%s', schemas.nspname, schemas.nspacl)
    FROM pg_namespace AS schemas
    WHERE schemas.nspname = %(schema)s::text
) AS part
