-- One row: the settled position.
SELECT indelible.head()
