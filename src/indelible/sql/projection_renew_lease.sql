-- One row: whether the lease stands.
SELECT indelible.projection_renew_lease(%(projection_id)s, %(partition)s::smallint, %(token)s)
