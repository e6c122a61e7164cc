-- One row: outcome, facts, taken_at, stream_ids, last_versions, first_position, positions.
SELECT outcome, facts, taken_at, stream_ids, last_versions, first_position, positions
FROM indelible.begin_import(
    %(names)s::text[],
    %(channels)s::text[],
    %(counts)s::bigint[],
    %(versions)s::bigint[],
    %(ids)s::uuid[],
    %(tags)s::text[],
    %(tag_places)s::integer[],
    %(latest)s::timestamptz,
    %(lives)s::jsonb
)
