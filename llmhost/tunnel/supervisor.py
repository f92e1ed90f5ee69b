"""`python -m llmhost.tunnel.supervisor`: the supervisor of the operator's machine."""

import sys

from llmhost.supervisor.supervisor import run_program

if __name__ == "__main__":
    run_program(sys.argv[1:])
