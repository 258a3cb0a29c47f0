"""Weight file formats, one file each; a new file needs no other change."""
