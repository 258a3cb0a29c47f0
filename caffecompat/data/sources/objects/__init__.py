"""Images with the boxes of their objects, and windows of them."""
