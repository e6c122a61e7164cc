-- One row, of nothing.
SELECT indelible.projection_worker_leave(%(worker)s)
