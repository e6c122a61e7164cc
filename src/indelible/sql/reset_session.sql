-- Undoes what a caller may have left behind in a session: locks, settings, the role, cursors,
-- LISTEN and temporary tables. One row: whether a statement is left that was prepared by SQL.
SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql), pg_advisory_unlock_all();
RESET SESSION AUTHORIZATION;
RESET ROLE;
RESET ALL;
CLOSE ALL;
UNLISTEN *;
DISCARD TEMP;
