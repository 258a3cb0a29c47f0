"""FlowNet's augmentation of images and of the flow between them."""
