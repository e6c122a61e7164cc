-- A row a worker of a group, in the order that they joined in.
SELECT
    workers.token, workers.name, count(slices.slice), workers.joined_at, workers.expires_at
FROM indelible.group_workers AS workers
LEFT JOIN indelible.group_slices AS slices USING (group_id, token)
WHERE workers.group_id = %(group_id)s
    AND workers.expires_at > clock_timestamp() -- the others are dead, and are taken for it soon
GROUP BY workers.group_id, workers.token
ORDER BY workers.token
