-- A row a document of those asked for, of one version, in order of key: checkpoint, head, key, document; one row without a document where there is none, no row where the version does not serve.
SELECT checkpoint, head, key, document
FROM indelible.documents_read(%(name)s, %(version)s::integer, %(keys)s::text[])
