"""Snapshots: file names, writing, finding and resuming."""
