-- A row an event that a build leaves out: its position, and the partition that leaves it out.
SELECT position, partition
FROM indelible.projection_parked
WHERE projection_id = %(projection_id)s
