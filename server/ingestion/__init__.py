"""From an uploaded file or a web page to searchable chunks."""
