"""What ``caffecompat inspect`` prints, for each kind of file."""
