"""Disaster recovery: export of everything, import into an empty system, and the drill that proves both."""
