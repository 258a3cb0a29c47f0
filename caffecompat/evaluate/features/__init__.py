"""Features of images, linear classifiers on them, and the measures of the VGG paper's App. B."""
