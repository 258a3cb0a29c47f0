"""One file per kind of database; a file that is here is found."""
