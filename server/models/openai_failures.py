"""What goes wrong at an OpenAI-compatible endpoint, in the words of the port. The SDK itself never retries."""

import email.utils
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import httpx2
import openai
import pydantic

from server import caller
from server.models.port import ProviderFailure
from server.models.sse import LineTooLong

_CONNECT_SECONDS = 5.0
_MALFORMED = (
    json.JSONDecodeError,
    UnicodeDecodeError,
    LineTooLong,
    pydantic.ValidationError,
    openai.APIResponseValidationError,
)
_PERMANENT_CODES = {"insufficient_quota"}
_TRANSIENT_STATUSES = {408, 409, 425, 429}


def client(base_url: str, api_key: str, timeout_seconds: float) -> openai.AsyncOpenAI:
    """Return a client that waits at most `timeout_seconds` for each read and leaves retries to us.

    An empty key is sent as a word: servers without keys take any, and without one the SDK looks in the environment.
    """
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key or "none",
        max_retries=0,
        timeout=httpx2.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
    )


def correlation() -> dict[str, str]:
    """Return the headers that let a provider's log be found by our request id."""
    request_id = str(caller.current().request_id)
    return {"X-Request-ID": request_id, "X-Client-Request-Id": request_id}


@contextmanager
def failing() -> Iterator[None]:
    """Turn everything the SDK raises into ProviderFailure; messages hold no foreign text."""
    try:
        yield
    except _MALFORMED as error:
        raise ProviderFailure("the reply is malformed", transient=True) from error
    except openai.APIStatusError as error:
        raise _of_status(error) from error
    except openai.APITimeoutError as error:
        raise ProviderFailure("no reply in time", transient=True) from error
    except openai.APIConnectionError as error:
        raise ProviderFailure("the connection failed", transient=True) from error
    except openai.OpenAIError as error:
        raise ProviderFailure("the provider reported an error", transient=True) from error
    except httpx2.TimeoutException as error:
        raise ProviderFailure("the reply stalled", transient=True) from error
    except httpx2.HTTPError as error:
        raise ProviderFailure("the connection broke", transient=True) from error


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Return how long a reply asks us to wait, by seconds or by date; `now` is Unix time."""
    wanted = headers.get("retry-after", "")
    try:
        return max(0.0, float(wanted))
    except ValueError:
        pass
    try:
        moment: datetime = email.utils.parsedate_to_datetime(wanted)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - now)


def _of_status(error: openai.APIStatusError) -> ProviderFailure:
    status = error.status_code
    transient = (status >= 500 or status in _TRANSIENT_STATUSES) and error.code not in _PERMANENT_CODES
    wait = retry_after_seconds(error.response.headers, time.time()) if transient else None
    return ProviderFailure(f"status {status}", transient=transient, retry_after_seconds=wait)
