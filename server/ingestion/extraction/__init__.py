"""Text out of files: one reader per format, run in a process of its own so that a hostile file hurts nobody."""
