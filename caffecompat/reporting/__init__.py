"""What a running job says: log lines, progress, the terminal, units."""
