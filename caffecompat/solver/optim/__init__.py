"""The optimizer: update rules, learning-rate policies, gradient scaling."""
