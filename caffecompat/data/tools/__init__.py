"""The work of convert-imageset, compute-image-mean and dataset."""
