-- A row a document that is there, of those asked for.
SELECT key, document
FROM indelible.projection_documents
WHERE projection_id = %(projection_id)s
    AND key = ANY(%(keys)s::text[])
