-- One row without meaning: the settled position is noted for servers that take over.
SELECT indelible.note_settled()
