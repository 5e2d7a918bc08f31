"""Enhancement of dark frames: `build.enhance` applies any of them by name."""
