"""``caffe.Net`` and what it consists of."""
