"""What happens to bytes between a table and a file: gzip, and AES-256-GCM in frames that cannot be cut or moved."""

import hashlib
import hmac
import zlib
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from server.refusal import ExportInvalid

ALGORITHM = "AES-256-GCM"
FRAME_BYTES = 256 * 1024
SALT_BYTES = 16
_TAG_BYTES = 16
_KEY_BYTES = 32
_SCRYPT_COST = 2**15
"""About 0.1 s and 32 MB once per export: guessing a weak key stays expensive."""
_INFLATE_BYTES = 16 * 1024
"""Packed bytes unpacked at once: a hostile file makes at most a thousand times as much of them."""


class Keys:
    """The keys of one export: made from the secret and the export's salt, another one for each file. Takes 0.1 s."""

    def __init__(self, secret: str, salt: bytes) -> None:
        self._master = Scrypt(salt, _KEY_BYTES, n=_SCRYPT_COST, r=8, p=1).derive(secret.encode())

    def of(self, name: str) -> bytes:
        """Return the key of a file; files that change places do not open."""
        return HKDFExpand(hashes.SHA256(), _KEY_BYTES, b"bacmr export " + name.encode()).derive(self._master)

    def sign(self, content: bytes) -> str:
        """Return the proof, in hex, that a holder of the secret wrote `content`."""
        return hmac.new(self.of("manifest"), content, hashlib.sha256).hexdigest()


class Sealer:
    """Encrypts a stream. The number of each frame and whether it is the last are part of its nonce."""

    def __init__(self, key: bytes) -> None:
        self._frames = _Frames(key)
        self._waiting = bytearray()

    def add(self, data: bytes) -> bytes:
        """Take plain bytes, return what is ready of the encrypted ones."""
        self._waiting += data
        ready = []
        # A full frame waits for the next byte: only `end` knows the last one.
        while len(self._waiting) > FRAME_BYTES:
            ready.append(self._frames.seal(_take(self._waiting, FRAME_BYTES), last=False))
        return b"".join(ready)

    def end(self) -> bytes:
        """Return the last frame."""
        return self._frames.seal(bytes(self._waiting), last=True)


class Opener:
    """Decrypts what `Sealer` made. Raises ExportInvalid for changed, missing or moved bytes, or another key."""

    def __init__(self, key: bytes) -> None:
        self._frames = _Frames(key)
        self._waiting = bytearray()

    def add(self, data: bytes) -> bytes:
        """Take encrypted bytes, return what is proven of the plain ones."""
        self._waiting += data
        ready = []
        while len(self._waiting) > FRAME_BYTES + _TAG_BYTES:
            ready.append(self._frames.open(_take(self._waiting, FRAME_BYTES + _TAG_BYTES), last=False))
        return b"".join(ready)

    def end(self) -> bytes:
        """Return the rest; raises when the stream was cut."""
        return self._frames.open(bytes(self._waiting), last=True)


class _Frames:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._number = 0

    def seal(self, data: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last), data, None)

    def open(self, data: bytes, *, last: bool) -> bytes:
        try:
            return self._cipher.decrypt(self._nonce(last), data, None)
        except InvalidTag:
            raise ExportInvalid("A file of the export was cut or changed, or the key is another one.") from None

    def _nonce(self, last: bool) -> bytes:
        # Each key encrypts one file once, so counting never repeats a nonce.
        number, self._number = self._number, self._number + 1
        return number.to_bytes(11, "big") + bytes([last])


class Packer:
    """Compresses a stream with gzip."""

    def __init__(self) -> None:
        self._gzip = zlib.compressobj(6, wbits=31)

    def add(self, data: bytes) -> bytes:
        """Take bytes, return what is ready of the packed ones."""
        return self._gzip.compress(data)

    def end(self) -> bytes:
        """Return the rest."""
        return self._gzip.flush()


class Unpacker:
    """Reads what `Packer` made. Raises ExportInvalid when it was cut or is no gzip."""

    def __init__(self) -> None:
        self._gzip = zlib.decompressobj(wbits=31)

    def add(self, data: bytes) -> Iterator[bytes]:
        """Take packed bytes, yield the unpacked ones in pieces of bounded size."""
        for start in range(0, len(data), _INFLATE_BYTES):
            try:
                yield self._gzip.decompress(data[start : start + _INFLATE_BYTES])
            except zlib.error:
                raise ExportInvalid("A file of the export is damaged.") from None

    def end(self) -> None:
        """Refuse a stream without its end, or with something after it."""
        if not self._gzip.eof or self._gzip.unused_data:
            raise ExportInvalid("A file of the export was cut short.")


def _take(buffer: bytearray, size: int) -> bytes:
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken
