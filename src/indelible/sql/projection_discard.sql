-- One row: how many parked events were given up.
SELECT indelible.projection_discard(%(name)s, %(position)s::bigint)
