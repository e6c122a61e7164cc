-- One row: the last position handed out, and how many committed events stand behind the head.
SELECT
    (SELECT last_position FROM indelible.size()),
    (SELECT count(*) FROM indelible.recorded_events WHERE position > %(head)s)
