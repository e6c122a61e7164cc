-- One row without meaning: the group has other settings.
SELECT indelible.group_change(
    %(group)s, %(items)s::jsonb, %(partition_by)s, %(max_attempts)s::int, %(retry_after)s,
    %(lease)s, %(hold_back)s, %(due)s
)
