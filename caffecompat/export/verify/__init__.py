"""Comparisons of one model in two programs, and guesses at why they differ."""
