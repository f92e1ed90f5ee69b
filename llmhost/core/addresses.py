"""Reading addresses the way their owners write them."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlsplit, urlunsplit

OLLAMA_PORT = 11434
# Ollama's own reading of OLLAMA_HOST: a scheme brings its own port.
_SCHEME_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback (or a Unix socket's path)."""
    bare = host.strip().strip("[]").lower()
    if bare in ("localhost", "") or bare.endswith(".localhost") or bare.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def ollama_url(given: str | None) -> str:
    """OLLAMA_HOST as `scheme://host:port`.

    With or without scheme; no port means 11434, or the scheme's own when a scheme is given (that is how Ollama's client
    reads it); the wildcard addresses `0.0.0.0` and `::` mean loopback. Raises ValueError.
    """
    text = (given or "").strip().strip("\"'")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in _SCHEME_PORTS:
        raise ValueError(f"{scheme!r} is not http or https")
    host, port = _host_and_port(rest.split("/", 1)[0])
    return f"{scheme}://{host}:{port or (_SCHEME_PORTS[scheme] if found else OLLAMA_PORT)}"


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"  # a bare IPv6 address
    parts = urlsplit(f"//{text}")
    host = parts.hostname or "127.0.0.1"
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return (f"[{host}]" if ":" in host else host), parts.port


def without_password(url: str) -> str:
    """A URL as it may be shown: the password replaced by `…`, everything else as it was."""
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return urlunsplit(parts._replace(query=""))
        place = f"{quote(parts.username or '')}:…@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=place, query=""))
    except ValueError:
        return "…"
