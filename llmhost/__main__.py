"""The console script `llmhost`, and `python -m llmhost`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the exit code."""
    try:
        from llmhost.cli.main import main as run

        return run()
    except KeyboardInterrupt:  # outside of any command: nothing to tell
        return 130


if __name__ == "__main__":
    sys.exit(main())
