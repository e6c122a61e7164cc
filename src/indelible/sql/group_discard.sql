-- One row: how many parked events were given up.
SELECT indelible.group_discard(%(group)s, %(position)s, %(key)s)
