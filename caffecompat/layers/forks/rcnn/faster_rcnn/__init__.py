"""Python layers with which py-faster-rcnn and R-FCN train: images, anchors, regions."""
