-- One row: the number of the last migration applied; what is wrong with the store, null for nothing;
-- what that is about: a name, and a number. A new epoch begins here, if one has to: whoever begins it
-- in a long transaction would keep all others waiting.
SELECT
    CASE WHEN problem IS DISTINCT FROM 'renamed' THEN indelible.schema_version() END,
    problem,
    subject,
    number
FROM indelible.store_problem('indelible.events'::regclass)
WHERE CASE WHEN problem = 'renamed' THEN true ELSE indelible.epoch() IS NOT NULL END
