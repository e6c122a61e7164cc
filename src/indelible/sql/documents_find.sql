-- A row a document whose fields have given values, of one version, in order of key. Columns and rows without a document as of documents_read.
SELECT checkpoint, head, key, document
FROM indelible.documents_find(
    %(name)s, %(version)s::integer, %(field)s::text, %(value)s::jsonb, %(fields)s::jsonb,
    %(after)s::text, %(limit)s::bigint
)
