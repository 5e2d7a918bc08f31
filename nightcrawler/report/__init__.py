"""Report on a run of the chain: figures, plots, an HTML page and a table for a terminal."""
