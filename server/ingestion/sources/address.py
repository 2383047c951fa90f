"""Addresses of web pages: one spelling per page, and which of them a source may fetch. Pure."""

from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from server.refusal import SourceRefused

MAX_CHARACTERS = 2_048
DEFAULT_PORTS = {"http": 80, "https": 443}
_TRACKING_PREFIXES = ("utm_",)
_TRACKING = frozenset({"fbclid", "gclid", "msclkid", "mc_cid", "mc_eid", "yclid", "igshid", "ref_src"})
_PATH_CHARACTERS = "/:@!$&'()*+,;=~-._%"


def canonical(address: str, relative_to: str = "") -> str:
    """Return the one spelling of an http(s) address: host in lower case, no fragment, default port or tracking query.

    Raises SourceRefused for other schemes, addresses with a user name and addresses that are no addresses.
    """
    try:
        parts = urlsplit(urljoin(relative_to, address.strip()))
        host, port = parts.hostname or "", parts.port
        labels = host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise SourceRefused("This is not a web address.") from None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS or not labels or parts.username is not None or parts.password is not None:
        raise SourceRefused("Only plain http and https addresses may be fetched.")
    bracketed = f"[{labels}]" if ":" in labels else labels
    netloc = bracketed if port in (None, DEFAULT_PORTS[scheme]) else f"{bracketed}:{port}"
    path = quote(parts.path, safe=_PATH_CHARACTERS) or "/"
    found = urlunsplit((scheme, netloc, path, _query(parts.query), ""))
    if len(found) > MAX_CHARACTERS:
        raise SourceRefused("This web address is too long.")
    return found


def require_allowed(address: str, hosts: Iterable[str]) -> None:
    """Let an address pass whose host is on the list or below a host on it; raise SourceRefused for any other."""
    host = urlsplit(address).hostname or ""
    if not any(host == allowed or host.endswith(f".{allowed}") for allowed in map(str.lower, hosts)):
        raise SourceRefused("This host is not on the list of allowed hosts, BACMR_SOURCE_HOSTS.", host=host)


def site(address: str) -> str:
    """Return scheme, host and port of an address: what a robots.txt speaks for."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def same_site(address: str, other: str) -> bool:
    """Say whether two addresses belong to one host."""
    return urlsplit(address).hostname == urlsplit(other).hostname


def _query(query: str) -> str:
    kept = [
        (key, value)
        for key, value in parse_qsl(query, keep_blank_values=True)
        if key not in _TRACKING and not key.startswith(_TRACKING_PREFIXES)
    ]
    return urlencode(kept)
