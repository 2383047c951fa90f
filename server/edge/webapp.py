"""The web app: a folder of built files, read once, answered from memory, small on the wire and cached for good."""

import gzip
import hashlib
import mimetypes
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

INDEX: Final = "index.html"
HASHED: Final = "assets/"
"""Files here carry a hash of their content in their name: a new content is a new address."""
FOREVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8"}


class WebApp:
    """The files of a built web app by their path."""

    def __init__(self, folder: Path) -> None:
        """Read and compress every file of `folder`."""
        files = [file for file in folder.rglob("*") if file.is_file()]
        self._files = {file.relative_to(folder).as_posix(): _File(file) for file in files}

    async def answer(self, request: Request) -> Response:
        """Answer GET and HEAD of a path; the root is the page itself."""
        path = request.path_params["path"] or INDEX
        file = self._files.get(path)
        if file is None:
            return Response(status_code=404)
        headers = {
            "cache-control": FOREVER if path.startswith(HASHED) else ASK_AGAIN,
            "etag": file.etag,
            "vary": "accept-encoding",
        }
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        body = file.body
        if "gzip" in request.headers.get("accept-encoding", ""):
            body = file.compressed
            headers["content-encoding"] = "gzip"
        return Response(body, media_type=file.media_type, headers=headers)


class _File:
    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.compressed = gzip.compress(self.body, mtime=0)
        self.etag = f'W/"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self.media_type = _TYPES.get(path.suffix, guessed)
