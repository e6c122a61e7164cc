"""Building blocks without I/O, used by all other packages."""
