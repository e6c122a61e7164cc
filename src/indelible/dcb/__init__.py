"""Dynamic Consistency Boundary: conditions across streams."""
