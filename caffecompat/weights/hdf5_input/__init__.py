"""Reading of untrusted HDF5 files, in a separate process."""
