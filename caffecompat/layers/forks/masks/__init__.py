"""Layer types of multi-task network cascades: instance masks."""
