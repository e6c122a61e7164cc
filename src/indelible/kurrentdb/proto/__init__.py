"""The messages of the wire. `.ci/generate_proto.py` writes the modules from the `.proto` files."""
