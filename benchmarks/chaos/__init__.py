"""A fault run: mixed calls against a server with two processes and a worker, while each part is killed in turn."""
