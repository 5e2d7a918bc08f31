"""Adapters: what is re-estimated on unlabelled dark clips after an epoch."""
