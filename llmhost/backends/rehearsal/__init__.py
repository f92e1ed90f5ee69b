"""Answers without a model, so that a user can prove install, tunnel, proxy, cache and `claude` before spending a cent.

Without directions an answer is derived from the prompt alone: equal prompts, equal answers, each saying that no model
is behind it. Lines of the last user text that begin with `@rehearse` direct the answers instead; see `directives` for
the grammar.
"""

from llmhost.backends.rehearsal.backend import RehearsalBackend

__all__ = ["RehearsalBackend"]
