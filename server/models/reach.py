"""Whether an OpenAI-compatible endpoint answers and takes our key, found out without spending a token."""

from dataclasses import dataclass

import httpx

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reach:
    """What `GET /models` told: `models` is empty where an endpoint keeps no such list."""

    answers: bool
    key_taken: bool
    models: frozenset[str] = frozenset()


async def reach(base_url: str, api_key: str) -> Reach:
    """Ask an endpoint for its models. Never raises: an endpoint that does not answer is an answer too."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with httpx.AsyncClient(timeout=_SECONDS) as http:
            reply = await http.get(f"{base_url.rstrip('/')}/models", headers=headers)
    except httpx.HTTPError:
        return Reach(answers=False, key_taken=False)
    if reply.status_code in (401, 403):
        return Reach(answers=True, key_taken=False)
    try:
        listed = frozenset(str(model["id"]).removeprefix("models/") for model in reply.json()["data"])
    except (ValueError, KeyError, TypeError):
        listed = frozenset()
    return Reach(answers=reply.status_code < 500, key_taken=True, models=listed)
