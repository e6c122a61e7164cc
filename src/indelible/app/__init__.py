"""The application runner."""
