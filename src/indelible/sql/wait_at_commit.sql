-- One row without meaning: the commit waits for the disk and for synchronous standbys.
SELECT indelible.wait_at_commit()
