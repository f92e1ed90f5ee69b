"""What llmhost costs: `python -m tests.bench.run` measures it beside the same requests sent directly, and prints one table."""
