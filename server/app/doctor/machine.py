"""The machine that a server runs on."""

import resource
import shutil
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from server.app.doctor.finding import Finding, Verdict
from server.app.startup import data_folder
from server.config import Settings, given_names, misspelt

DISK_BYTES_WRONG = 1024**3
DISK_BYTES_DOUBTFUL = 5 * 1024**3
OPEN_FILES_LEAST = 4_096
"""Each stream is a connection of a phone: the usual 1,024 are used up by a class of a large school."""
CERTIFICATE_DAYS_DOUBTFUL = 14
OCR_LANGUAGES = ("ara", "fra")


def settings(_: Settings) -> list[Finding]:
    """Look for names that set nothing: a store whose address is misspelt is an embedded one."""
    return [
        Finding("settings", Verdict.WRONG, f"{name} is none" + (f"; is {near} meant?" if near else ""))
        for name, near in misspelt(given_names()).items()
    ] or [Finding("settings", Verdict.FINE, "all names are known")]


def data(settings: Settings) -> list[Finding]:
    """Look at the data folder: rights, secrets, room."""
    if not settings.data_dir.exists():
        return [Finding("disk", Verdict.UNUSED, f"{settings.data_dir} is made when the server starts")]
    folder = data_folder(settings.data_dir)
    free = shutil.disk_usage(folder).free
    findings = [Finding("disk", _room(free), f"{free / 1024**3:.1f} GB free under {folder}")]
    open_to_others = [
        secret.name
        for secret in (folder / "secret", *(settings.jwt_keys_dir or folder / "keys").glob("*.pem"))
        if secret.exists() and stat.S_IMODE(secret.stat().st_mode) & 0o077
    ]
    if open_to_others:
        names = ", ".join(open_to_others)
        findings.append(Finding("secrets", Verdict.WRONG, f"other users may read {names}: chmod 600, then rotate"))
    return findings


def _room(free_bytes: int) -> Verdict:
    if free_bytes < DISK_BYTES_WRONG:
        return Verdict.WRONG
    return Verdict.DOUBTFUL if free_bytes < DISK_BYTES_DOUBTFUL else Verdict.FINE


def open_files(settings: Settings) -> list[Finding]:
    """Look at how many connections the system lets a process hold."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed >= OPEN_FILES_LEAST:
        return [Finding("open files", Verdict.FINE, f"{allowed} allowed")]
    advice = f"{allowed} allowed, {OPEN_FILES_LEAST} wanted: raise it by `ulimit -n` or LimitNOFILE (now up to {most})"
    return [Finding("open files", Verdict.DOUBTFUL, advice)]


def tls(settings: Settings) -> list[Finding]:
    """Look at the certificate: it fits its key and has not ended."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return [Finding("TLS", Verdict.UNUSED, "plaintext, which is served on loopback only unless told")]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        return [Finding("TLS", Verdict.WRONG, f"the certificate and the key do not load together ({error.strerror})")]
    ends_at = x509.load_pem_x509_certificate(Path(settings.tls_cert_file).read_bytes()).not_valid_after_utc
    left = ends_at - datetime.now(UTC)
    if left < timedelta(0):
        return [Finding("TLS", Verdict.WRONG, f"the certificate ended on {ends_at:%Y-%m-%d}: renew it")]
    verdict = Verdict.DOUBTFUL if left < timedelta(days=CERTIFICATE_DAYS_DOUBTFUL) else Verdict.FINE
    return [Finding("TLS", verdict, f"the certificate ends on {ends_at:%Y-%m-%d}, in {left.days} days")]


def scans(settings: Settings) -> list[Finding]:
    """Look for Tesseract and its languages."""
    program = shutil.which("tesseract")
    if program is None:
        return [Finding("scanned pages", Verdict.DOUBTFUL, "Tesseract is not installed: scanned pages are refused")]
    listed = subprocess.run([program, "--list-langs"], capture_output=True, text=True, timeout=30, check=False)
    missing = [language for language in OCR_LANGUAGES if language not in listed.stdout.split()]
    if missing:
        packages = " ".join(f"tesseract-ocr-{language}" for language in missing)
        return [Finding("scanned pages", Verdict.DOUBTFUL, f"Tesseract lacks {', '.join(missing)}: install {packages}")]
    return [Finding("scanned pages", Verdict.FINE, "Tesseract reads Arabic and French")]
