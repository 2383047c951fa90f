"""Who may change a document. Row-level security holds the same line; this says it in words."""

from server import caller
from server.caller import Role
from server.corpus.passage import Document
from server.refusal import Forbidden

_OPERATORS = (Role.ADMIN, Role.SERVICE)


def require_owner(document: Document) -> None:
    """Raise Forbidden unless the caller owns the document or is an operator."""
    who = caller.current()
    if who.role not in _OPERATORS and (who.user_id is None or document.owner_id != who.user_id):
        raise Forbidden("Only the owner of a document or an operator may do this.")
