-- One row: the settled position, the epoch, and the id of the event at that position.
SELECT head, epoch, event_id
FROM indelible.head_state()
