"""Statistics, epochs and event types of a store."""
