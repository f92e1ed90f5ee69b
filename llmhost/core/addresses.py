"""Reading addresses the way their owners write them."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, parse_qs, urlsplit

OLLAMA_PORT = 11434
# Ollama's own reading of OLLAMA_HOST: a scheme brings its own port.
_SCHEME_PORTS = {"http": 80, "https": 443}
REDIS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
_ENCODE = "in a user name or password, / ? # and @ are written %2F %3F %23 %40"


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
    """A URL as it may be shown: scheme, host, port and path, and `…` for a login.

    Only `…` when it cannot be told what belongs to the password.
    """
    try:
        parts = urlsplit(url)
        login, at, place = parts.netloc.rpartition("@")
        _ = parts.port
    except ValueError:
        return "…"
    outside = url.count("@") - login.count("@") - len(at)
    if "://" not in url or outside or (at and parts.password is None):
        return "…"
    return f"{parts.scheme}://{'…@' if at else ''}{place}{parts.path}"


def redis_url_trouble(url: str) -> str:
    """What is wrong with a Redis URL, in words that quote nothing of it; "" for one that the cache can use."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in ("redis", "rediss", "unix"):
        return "should begin with redis://, rediss:// or unix://"
    if any(character.isspace() for character in rest):
        return "should hold no space: in a password it is written %20"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"should hold an address and a port that can be read; {_ENCODE}"
    return _place_trouble(parts) or _database_trouble(parts) or ("has port 0" if port == 0 else "")


def _place_trouble(parts: SplitResult) -> str:
    beyond = "@" in f"{parts.path}{parts.query}{parts.fragment}"
    if parts.scheme == "unix":
        if parts.netloc and not parts.netloc.endswith("@"):
            return f"should have no host before the path of the socket; {_ENCODE}"
        return "" if parts.path.strip("/") else "should have the path of a socket"
    if beyond:
        return f"is cut short; {_ENCODE}"
    return "" if parts.hostname else "should have a host"


def _database_trouble(parts: SplitResult) -> str:
    options = parse_qs(parts.query, keep_blank_values=True)
    numbers = [*options.pop("db", []), *([parts.path.strip("/")] if parts.scheme != "unix" else [])]
    if not all(number.isascii() and number.isdigit() for number in numbers if number):
        return "should have a number as its database"
    if options.keys() - REDIS_OPTIONS:
        return f"has an option that is not known; known are db, {', '.join(sorted(REDIS_OPTIONS))}"
    return ""
