"""Layer types of forks for sequences: recurrent layers, connectionist temporal classification."""
