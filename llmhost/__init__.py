"""llmhost: Claude Code on a model you host yourself."""

__version__ = "0.1.0"
