"""Properties of text: the first example of a run loads tables, so examples have no deadline."""

from hypothesis import settings

settings.register_profile("text", deadline=None)
settings.load_profile("text")
