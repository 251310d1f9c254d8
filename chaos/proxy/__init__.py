"""A TCP proxy with Toxiproxy's HTTP API: what stands between the workers and their servers.

`python -m chaos.proxy --help`. docs/proxy.md says what it offers and where it differs. It imports
nothing of the product: whoever is disturbed by it shares no code with it.
"""
