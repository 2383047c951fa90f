"""SQL of the operators' room."""
