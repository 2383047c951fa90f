"""Files behind one port; a folder is the embedded default."""
