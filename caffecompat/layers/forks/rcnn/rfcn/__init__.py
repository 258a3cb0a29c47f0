"""R-FCN's losses: online hard example mining."""
