-- One row: the position that the group was sent to; null where there is no such group.
SELECT indelible.group_reset(%(group)s, %(after)s, %(since)s)
