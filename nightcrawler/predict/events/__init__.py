"""Events of videos and cameras: what begins and ends, and where it is told."""
