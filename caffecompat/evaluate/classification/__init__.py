"""Class posteriors of images: computed, stored, averaged and scored."""
