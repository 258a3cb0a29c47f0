"""Layer types of oriented response networks."""
