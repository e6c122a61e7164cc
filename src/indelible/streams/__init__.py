"""Append to streams, and read streams and the log."""
