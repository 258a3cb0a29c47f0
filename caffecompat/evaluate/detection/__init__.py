"""Objects in images: detectors, their pictures, and the mean average precision of a data set."""
