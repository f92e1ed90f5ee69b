"""Answers from an Ollama server: its models, its health, and the codecs that speak to it."""
