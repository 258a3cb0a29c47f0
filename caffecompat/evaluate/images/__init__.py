"""Images with labels, read from folders, lists and databases, and prepared for a net."""
