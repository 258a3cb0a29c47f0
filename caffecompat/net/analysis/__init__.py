"""Looking at a net: summary, receptive fields, replay of recorded passes."""
