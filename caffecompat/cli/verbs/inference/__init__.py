"""Verbs that run nets on images and data: classes, boxes, features, scores."""
