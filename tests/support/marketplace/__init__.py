"""A stand-in for the marketplace vast.ai, on loopback.

`server.MarketServer` serves a `market.Market`; `control.Control` steers it; `sandbox.sandboxes` backs every running instance with a real
sshd that executes the real onstart. `python -m tests.support.marketplace` is the same as a process of its own.
"""
