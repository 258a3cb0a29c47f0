"""Layer types of forks for small nets: depthwise convolution, channel shuffling, activations."""
