"""Parameters of a net: initial values, sharing, loading, names in state dicts."""
