"""MultiBoxLoss: matching of boxes, mining of negatives, the two losses."""
