-- One row: whether a reader may go on from a checkpoint, today's epoch, up to where the log is the same as
-- the reader's (null where that is not known), and the last position handed out.
SELECT is_good, epoch, safe_through, last_position
FROM indelible.check_checkpoint(
    %(epoch)s::uuid, %(position)s, %(anchor_position)s::bigint, %(anchor_id)s::uuid
)
