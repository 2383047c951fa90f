"""Operators' work: people, sources, indexes, exports, traces."""
