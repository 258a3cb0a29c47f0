"""Database backends, one file each; a new file needs no other change."""
