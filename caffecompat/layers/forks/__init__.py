"""Layer types that forks of Caffe define, by the subject of the forks: one file per type."""
