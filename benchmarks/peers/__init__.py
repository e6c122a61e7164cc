"""Other stores, each run as its documentation recommends, and the limits."""
