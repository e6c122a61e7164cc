-- One row: whether the group was created.
SELECT indelible.group_create(
    %(group)s, %(items)s::jsonb, %(partition_by)s, %(after)s, %(since)s, %(max_attempts)s::int,
    %(retry_after)s, %(lease)s, %(hold_back)s, %(due)s
)
