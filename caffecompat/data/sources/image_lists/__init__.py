"""Lists of images, and the images as samples."""
