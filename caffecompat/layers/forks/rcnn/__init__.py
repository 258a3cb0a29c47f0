"""Layer types of Fast R-CNN, Faster R-CNN, R-FCN, MS-CNN and Cascade R-CNN."""
