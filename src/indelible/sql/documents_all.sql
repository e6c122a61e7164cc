-- A row a document of one version, in order of key. Columns and rows without a document as of documents_read.
SELECT checkpoint, head, key, document
FROM indelible.documents_all(
    %(name)s, %(version)s::integer, %(after)s::text, %(limit)s::bigint
)
