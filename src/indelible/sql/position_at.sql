-- One row: the position that stands for a moment, at or below a settled position, and whether an
-- event recorded later is settled, so that it never changes.
SELECT stands_for, has_passed
FROM indelible.position_at(%(moment)s, %(head)s)
