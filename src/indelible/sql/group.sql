-- A row for the group, if there is one: its settings, and how it stands.
SELECT
    groups.name,
    groups.query,
    groups.partition_by,
    groups.max_attempts,
    groups.retry_seconds,
    groups.lease_seconds,
    groups.hold_back,
    groups.due,
    groups.id,
    groups.start_position,
    groups.created_at,
    indelible.group_checkpoint(groups.id),
    (SELECT min(places.position) FROM indelible.group_places(groups.id) AS places),
    count(noted.state) FILTER (WHERE noted.state IN ('retry', 'running')),
    count(noted.state) FILTER (WHERE noted.state = 'queued'),
    count(noted.state) FILTER (WHERE noted.state = 'parked')
FROM indelible.groups
LEFT JOIN indelible.group_events AS noted ON noted.group_id = groups.id
WHERE groups.name = %(group)s
GROUP BY groups.id
