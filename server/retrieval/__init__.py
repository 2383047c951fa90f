"""Questions to cited, streamed answers."""
