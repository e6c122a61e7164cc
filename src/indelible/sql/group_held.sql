-- A row a key of a worker's that has an event before which later ones must wait.
SELECT DISTINCT noted.key
FROM indelible.group_events AS noted
JOIN indelible.group_slices AS slices
    ON slices.group_id = noted.group_id
    AND slices.slice = noted.slice
    AND slices.token = %(token)s
WHERE noted.group_id = %(group_id)s
    AND (%(hold_back)s OR noted.state <> 'parked')
