-- A row a document that is there, of those asked for, all of which are kept from others; one row without a document where there is none, no row where the projection is not built yet.
SELECT held.id, taken.key, taken.document
FROM indelible.projection_hold(%(name)s, %(version)s::integer) AS held
LEFT JOIN LATERAL indelible.projection_take(held.id, %(keys)s::text[]) AS taken ON true
