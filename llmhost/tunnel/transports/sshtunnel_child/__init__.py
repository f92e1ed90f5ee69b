"""`python -P -m llmhost.tunnel.transports.sshtunnel_child`: a link's connections by paramiko."""
