"""Sample sources: databases, image lists, windows, HDF5 files."""
