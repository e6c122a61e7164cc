-- One row: whether there was such a group.
SELECT indelible.group_delete(%(group)s)
