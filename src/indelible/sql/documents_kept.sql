-- A row a document of a build, in order of key.
SELECT key, document
FROM indelible.projection_documents
WHERE projection_id = %(projection_id)s
    AND key > %(after)s
ORDER BY key
LIMIT %(limit)s
