-- One row: how many retired builds are kept, since somebody is still at it.
SELECT indelible.projection_sweep()
