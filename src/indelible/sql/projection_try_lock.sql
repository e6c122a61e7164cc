-- One row: whether appends to an inline projection are held up until the transaction ends; waits a fifth of a second at most.
SELECT indelible.projection_try_lock(indelible.projection_key(%(name)s))
