"""Data loading from disk to batches: databases, decoding, transforms, sampling, prefetching."""
