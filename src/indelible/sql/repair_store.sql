-- One row without meaning: what was wrong with the store is repaired.
SELECT indelible.repair_store()
