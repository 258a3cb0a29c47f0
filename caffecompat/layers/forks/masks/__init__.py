"""Layer types of instance masks: multi-task network cascades, hypercolumns."""
