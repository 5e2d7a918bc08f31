"""Where people are in pictures: layouts of joints, poses in files, estimators, motions."""
