-- A row a group, in order of name.
SELECT name
FROM indelible.groups
ORDER BY name
