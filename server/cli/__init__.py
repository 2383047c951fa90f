"""The bacmr command."""
