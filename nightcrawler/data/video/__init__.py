"""Video files: probe, decode, seek, verify."""
