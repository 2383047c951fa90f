"""What we know of French, Arabic and Hassaniya text: pure functions, no I/O."""
