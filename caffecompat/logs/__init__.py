"""Training logs of Caffe and of this package: parsing and plotting."""
