"""Enhancement of dark frames: `build.enhance`, and the registry `build.ENHANCEMENTS`."""
