"""Layer types of Cascade R-CNN."""
