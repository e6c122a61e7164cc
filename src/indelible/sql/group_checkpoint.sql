-- A row for the group, if there is one: up to where it is done.
SELECT indelible.group_checkpoint(id)
FROM indelible.groups
WHERE name = %(group)s
