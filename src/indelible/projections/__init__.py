"""Read models kept up to date from events."""
