-- A row a process that keeps projections up to date and is alive: its name, the builds it can run.
SELECT name, projections
FROM indelible.projection_workers
WHERE expires_at > clock_timestamp()
