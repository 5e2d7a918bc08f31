"""Preparation of data: list files of downloaded or own videos, and audits of their content."""
