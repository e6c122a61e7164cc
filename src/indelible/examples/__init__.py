"""Complete example programs. `indelible demo` runs one of them."""
