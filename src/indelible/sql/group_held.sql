-- A row a key of a worker's that has an event before which later ones must wait.
SELECT first.key
FROM indelible.group_firsts(%(group_id)s, %(hold_back)s) AS first
WHERE %(token)s = (
    SELECT slices.token
    FROM indelible.group_slices AS slices
    WHERE slices.group_id = %(group_id)s AND slices.slice = first.slice
)
