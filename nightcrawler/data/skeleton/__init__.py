"""Clips of skeletons: tracks of people from pose files, windows of them, augmentation."""
