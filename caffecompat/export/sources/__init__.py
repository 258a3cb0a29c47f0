"""Model files of other programs that are read as Caffe models, one form per file."""
