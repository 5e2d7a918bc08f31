"""Answers about one's own videos: files, folders, lists, long recordings, cameras, very large sets."""
