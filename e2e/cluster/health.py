"""Asking a component whether it is well."""

import ssl
import urllib.error
import urllib.request
from pathlib import Path


def answers(url: str, pki: Path | None = None) -> bool:
    """Whether a GET is answered with a success; with `pki`, as the administrator and knowing the authority."""
    context = _trust(pki) if pki else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:  # noqa: S310
            return bool(response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def answers_unverified(url: str) -> bool:
    """The same for a loopback endpoint that made its own certificate up."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:  # noqa: S310
            return bool(response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def _trust(pki: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki / "ca.crt")
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context
