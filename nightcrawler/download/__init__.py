"""Downloads of public files into a cache: whole, checked, or absent."""
