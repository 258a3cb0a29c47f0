"""Parameters and activations: statistics, histograms, pictures."""
