-- One row: the last position handed out, and the bytes on disk of tables and indexes.
SELECT last_position, bytes
FROM indelible.size()
