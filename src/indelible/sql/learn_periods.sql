-- One row: whether there is more to learn.
SELECT indelible.learn_periods(%(most)s)
