"""EvalDetection of YOLO's forks: which detections of a batch are right."""
