-- A row a document that is there, of those asked for; all are kept from others.
SELECT key, document
FROM indelible.projection_take(%(projection_id)s, %(keys)s::text[])
