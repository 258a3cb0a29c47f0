"""The package ``caffe.proto`` of pycaffe; its one module is ``caffe_pb2``."""
