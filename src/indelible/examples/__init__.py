"""Complete programs: `indelible demo` runs one of them."""
