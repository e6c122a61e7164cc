"""Events as JSON: classes, checks, upcasting."""
