"""Records and images as bytes: Datum and image files."""
