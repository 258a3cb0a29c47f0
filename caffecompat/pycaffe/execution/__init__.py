"""The passes of pycaffe's nets, layer by layer over blobs that keep their memory."""
