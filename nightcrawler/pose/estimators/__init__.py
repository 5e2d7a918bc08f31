"""Estimators of poses: from frames to joints of people, by name."""
