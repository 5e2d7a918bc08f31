"""Files of earlier versions, as users have them, and tests that they are still read."""
