-- One row: what is wrong with the store and was not repaired, null for nothing; what it is about: a
-- name, and a number.
SELECT problem, subject, number
FROM indelible.repair_store('indelible.events'::regclass)
