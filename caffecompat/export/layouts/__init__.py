"""Other programs' names for the parameters of known architectures, one file per family."""
