-- One row: how many parked events are to be tried again.
SELECT indelible.group_replay(%(group)s, %(position)s, %(key)s)
