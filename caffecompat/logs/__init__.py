"""Parsing and plotting of training logs of Caffe and of this package."""
