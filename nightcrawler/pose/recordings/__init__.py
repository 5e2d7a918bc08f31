"""Recordings of people who move: BVH, ASF/AMC of CMU, joint text files of Kinect."""
