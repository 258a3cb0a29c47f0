"""Prior boxes (anchors) of feature maps."""
