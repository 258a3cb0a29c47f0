"""A folder on the import path of processes that scripts spawn: it has a module ``caffe``."""
