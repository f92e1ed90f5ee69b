"""What everything that runs in the background is given of the environment of whoever starts it."""

from __future__ import annotations

from collections.abc import Mapping

# What programs need to find themselves, their files, the network and the graphics card. Everything else, of which nobody can tell what is
# a credential, stays behind: the supervisor gets what it needs over its socket.
_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY"),
    }
)
_BEGINNINGS = (
    *("LC_", "XDG_", "PYTHON", "DYLD_"),
    *("OLLAMA_", "GGML_", "LLAMA_ARG_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_"),
)
# Within those families (OLLAMA_API_KEY, LLAMA_ARG_API_KEY).
_SECRET_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD")
_EITHER_CASE = "_PROXY"


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are passed on."""
    return {name: value for name, value in environ.items() if _passes(name)}


def _passes(name: str) -> bool:
    known = name.upper() if name.upper().endswith(_EITHER_CASE) else name
    return known in _NAMES or (known.startswith(_BEGINNINGS) and not known.upper().endswith(_SECRET_ENDINGS))
