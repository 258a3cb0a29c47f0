"""Layer types of forks for dense prediction: segmentation, edges, saliency, binarization."""
