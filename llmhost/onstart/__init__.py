"""The script that a rented machine runs at every start of its container. It imports only `llmhost.core`."""
