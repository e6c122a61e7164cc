-- A row a type of the events in a range of positions: how many they are, the first and the last
-- position, and positions taken at random (null where none are wanted).
SELECT
    type,
    count(*),
    min(position),
    max(position),
    (array_agg(position ORDER BY random()) FILTER (WHERE %(samples)s > 0))[1:%(samples)s]
FROM indelible.recorded_events
WHERE position > %(after)s
    AND position <= %(upto)s
GROUP BY type
