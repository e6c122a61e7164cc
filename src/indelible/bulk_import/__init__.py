"""Import events in bulk."""
