-- One row: whether the lease stands.
SELECT indelible.group_renew_lease(%(group_id)s, %(token)s)
