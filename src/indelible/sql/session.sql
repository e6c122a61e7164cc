-- Sets what the store relies on, whatever the database, the role, the URL or the environment say.
-- Behind a pooler the session is everybody's: there it counts for this statement only.
-- A row a setting: whether the session is shared, the name, what it was, what it is.
SELECT
    pg_backend_pid() <> %(told)s::integer,
    name,
    current_setting(name),
    set_config(name, value, pg_backend_pid() <> %(told)s::integer)
FROM (
    VALUES
        ('default_transaction_isolation', 'read committed'),
        ('array_nulls', 'on'),
        ('standard_conforming_strings', 'on'),
        ('transform_null_equals', 'off'),
        ('exit_on_error', 'off'),
        -- A commit that a synchronous standby has not confirmed is told by a warning.
        ('client_min_messages', 'notice'),
        -- No lock is waited for without an end.
        ('lock_timeout', %(lock_timeout)s),
        -- The server finds a dead client as the client finds a dead server, also while it works.
        ('tcp_keepalives_idle', %(keepalives_idle)s),
        ('tcp_keepalives_interval', %(keepalives_interval)s),
        ('tcp_keepalives_count', %(keepalives_count)s),
        ('tcp_user_timeout', %(tcp_user_timeout)s),
        ('client_connection_check_interval', '10000')
) AS wanted (name, value)
WHERE
    -- Who has set these bounds keeps them.
    (name NOT IN ('lock_timeout', 'client_connection_check_interval') OR current_setting(name) = '0')
    -- Not every system can tell that a client has gone while its statement runs.
    AND (name <> 'client_connection_check_interval' OR version() ~ 'linux|apple')
