-- One row where somebody hears it: this session or another (see `Watch`), and none otherwise: a
-- NOTIFY that nobody hears would cost all processes that write. Its commit waits neither for the
-- disk nor for long for the lock of the whole cluster that it takes.
SELECT
    set_config('synchronous_commit', 'off', true),
    set_config('lock_timeout', '100ms', true),
    pg_notify(%(bell)s, '')
WHERE %(listens)s OR NOT pg_try_advisory_xact_lock(-1, hashtext(%(bell)s))
