"""Bounded caches with single flight."""
