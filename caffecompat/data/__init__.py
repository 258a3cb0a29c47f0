"""Records from disk to batches: databases, decoding, transforms, sampling, prefetching."""
