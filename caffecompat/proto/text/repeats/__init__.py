"""What comes again and again in a prototxt, read at once: values of a field, messages alike."""
