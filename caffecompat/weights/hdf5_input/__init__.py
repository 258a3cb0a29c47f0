"""HDF5 files that are read without trusting them."""
