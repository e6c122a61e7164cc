-- One row: whether it was kept.
SELECT indelible.take_snapshot(
    %(stream)s::text, %(state)s::text, %(shape)s::text, %(version)s::bigint,
    %(valid_at)s::timestamptz, %(erased_at)s::timestamptz, %(data)s::jsonb
)
