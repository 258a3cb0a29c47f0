"""What of a legacy project runs here, and what it lacks."""
