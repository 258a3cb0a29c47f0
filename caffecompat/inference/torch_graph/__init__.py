"""A net's fx graph rewritten for forward passes, one file for each kind of change."""
