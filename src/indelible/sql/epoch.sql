-- One row: the store's epoch.
SELECT indelible.epoch()
