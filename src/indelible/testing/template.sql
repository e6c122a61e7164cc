-- One row about a new store, as JSON: the names of the tables that have rows, and the values of the
-- sequences that belong to none of these tables (null if a sequence was never used).
SELECT
    (
        SELECT coalesce(jsonb_agg(tables.relname), '[]')::text
        FROM pg_class AS tables
        WHERE tables.relnamespace = %(schema)s::text::regnamespace
            AND tables.relkind = 'r'
            AND pg_relation_size(tables.oid) > 0
    ),
    (
        SELECT coalesce(jsonb_object_agg(free.sequencename, free.last_value), '{}')::text
        FROM pg_sequences AS free
        WHERE free.schemaname = %(schema)s::text
            AND NOT EXISTS (
                SELECT
                FROM pg_depend AS owned
                WHERE pg_relation_size(owned.refobjid) > 0
                    AND owned.objid = format('%%I.%%I', free.schemaname, free.sequencename)::regclass
                    AND owned.classid = 'pg_class'::regclass
                    AND owned.deptype IN ('a', 'i')
            )
    )
