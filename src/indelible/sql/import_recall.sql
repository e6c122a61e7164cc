-- One row: known, last_position, duplicates.
SELECT known, last_position, duplicates
FROM indelible.recall_import(
    %(names)s::text[],
    %(numbers)s::integer[],
    %(versions)s::bigint[],
    %(ids)s::uuid[],
    %(types)s::text[],
    %(data)s::jsonb[],
    %(metadata)s::jsonb[],
    %(tags)s::jsonb[],
    %(valid_at)s::timestamptz[],
    %(recorded_at)s::timestamptz[],
    %(after)s::bigint
)
