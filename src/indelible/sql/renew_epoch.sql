-- One row: the epoch that begins now.
SELECT indelible.renew_epoch()
