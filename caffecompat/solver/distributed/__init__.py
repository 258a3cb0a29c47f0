"""Several ranks: process group, gradient buckets, loss sharding, launching, failure detection."""
