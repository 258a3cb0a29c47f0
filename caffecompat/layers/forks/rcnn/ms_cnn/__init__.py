"""Layer types of MS-CNN, and what Cascade R-CNN's share with them."""
