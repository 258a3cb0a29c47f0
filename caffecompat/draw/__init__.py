"""Pictures of nets: an interactive HTML page, and graphviz's formats."""
