"""Layer types of optical flow and disparity (FlowNet and its successors)."""
