"""From list files and video files to batches of clips."""
