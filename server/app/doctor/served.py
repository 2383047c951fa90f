"""The running server as its clients see it."""

import httpx

from server.app.doctor.finding import Finding, Verdict
from server.config import Settings

SECONDS = 5.0


async def server(settings: Settings) -> list[Finding]:
    """Ask the HTTP port whether the server is ready to serve."""
    scheme = "https" if settings.tls_cert_file else "http"
    url = f"{scheme}://{settings.http_listen}/readyz"
    try:
        # The certificate is examined on its own; here it may name another host than the address we listen on.
        async with httpx.AsyncClient(timeout=SECONDS, verify=False) as http:
            reply = await http.get(url)
    except httpx.HTTPError:
        return [Finding("server", Verdict.UNUSED, f"none answers on {settings.http_listen}")]
    if reply.status_code == httpx.codes.OK:
        return [Finding("server", Verdict.FINE, f"ready on {settings.http_listen}")]
    return [Finding("server", Verdict.WRONG, f"runs but is not ready: {reply.text.strip()[:200]}")]
