"""Follow the log."""
