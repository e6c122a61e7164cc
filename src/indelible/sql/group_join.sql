-- One row: the group's number and the worker's token; nulls where there is no such group.
SELECT group_id, token
FROM indelible.group_join(%(group)s, %(worker)s, %(instance)s)
