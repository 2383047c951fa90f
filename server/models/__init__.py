"""Language models and embedders behind one port; the local provider is the embedded default."""
