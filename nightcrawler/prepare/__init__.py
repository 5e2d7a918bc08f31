"""From what was downloaded to list files, and what is in the videos: the tools `prepare_data` and `check_videos`."""
