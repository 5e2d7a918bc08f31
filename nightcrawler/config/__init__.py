"""Strict, bounded yacs configuration."""
