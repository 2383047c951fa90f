"""What ends a command: known to the command line without loading the server."""


class StartupError(Exception):
    """The server cannot start; the message names the setting or the store and what to do."""
