-- A row a document of one version, in order of key: checkpoint, head, key, document; one row without a document where there is none, no row where the version does not serve.
SELECT served.checkpoint, served.head, found.key, found.document
FROM indelible.projection_served(%(name)s, %(version)s::integer) AS served
LEFT JOIN LATERAL (
    SELECT documents.key, documents.document
    FROM indelible.projection_documents AS documents
    WHERE documents.projection_id = served.id
        AND documents.key > %(after)s
    ORDER BY documents.key
    LIMIT %(limit)s
) AS found ON true
ORDER BY found.key
