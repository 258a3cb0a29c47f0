"""Layer types of forks that belong to no single subject."""
