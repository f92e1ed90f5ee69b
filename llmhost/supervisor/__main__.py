"""`python -m llmhost.supervisor`: a supervisor of child processes alone, which is what a node runs."""

import sys

from llmhost.supervisor.supervisor import run_program

if __name__ == "__main__":
    run_program(sys.argv[1:])
