"""``import caffe`` in a process that a script spawns: :mod:`caffecompat.pycaffe` takes its place.

Such a process (multiprocessing's "spawn" and "forkserver") gets the import path of its parent, but
not what ``python -m caffecompat.run`` has installed there.
"""

from caffecompat.pycaffe.running.installing import NAME, install_as_caffe

if __name__ == NAME:
    install_as_caffe(force=True)
