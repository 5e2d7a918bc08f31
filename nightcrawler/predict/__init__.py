"""Predict videos of a user: files, folders, lists, long recordings, cameras, very large sets."""
