"""Output of running jobs: log lines, progress, tables, terminal properties, number formats."""
