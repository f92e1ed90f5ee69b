"""`python -m llmhost.proxy`: a server told what to be by one JSON line on standard input (core/server_config)."""

from __future__ import annotations

import sys

from llmhost.core.server_config import ServerConfig
from llmhost.proxy.serve import run


def main() -> int:
    try:
        config = ServerConfig.from_json(sys.stdin.buffer.readline().decode())
    except (ValueError, KeyError, TypeError) as error:
        sys.stderr.write(
            f"llmhost.proxy: the first line of standard input must be its configuration as JSON: {error}\n"
        )
        return 2
    try:
        return run(config)
    except OSError as error:
        sys.stderr.write(f"llmhost.proxy: cannot listen: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
