"""Quality on data given by path: `python -m evals DATA_DIR`. Nothing here is needed to run the server."""
