"""Where samples come from: databases, image lists, windows, HDF5 files."""
