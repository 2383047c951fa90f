"""The composition root: settings in, running server out; the only place that knows every room."""

from server.app.application import App
from server.app.rooms import FOREIGN_CHECKS
from server.app.startup import StartupError
from server.app.stores import attached_database, migrate_database

__all__ = ["FOREIGN_CHECKS", "App", "StartupError", "attached_database", "migrate_database"]
