-- One row: the group's number, the worker's token and the epoch of the log; nulls where there is no
-- such group.
SELECT group_id, token, epoch
FROM indelible.group_join(%(group)s, %(worker)s, %(instance)s)
