"""The composition root: settings in, running server out; the only place that knows every room."""
