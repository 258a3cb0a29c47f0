"""The functions behind the data verbs: convert-imageset, compute-image-mean, dataset, ..."""
