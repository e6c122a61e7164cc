-- A row a channel, in order of name: channel, its streams, its events.
SELECT channel, count(*), sum(version + 1)::bigint
FROM indelible.recorded_streams
GROUP BY channel
ORDER BY channel
