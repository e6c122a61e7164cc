-- One row: how many partitions were stopped.
SELECT indelible.projection_restart(%(name)s)
