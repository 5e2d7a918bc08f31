"""A page on this machine that takes a clip and shows what models see in it."""
