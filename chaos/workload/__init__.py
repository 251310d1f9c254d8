"""The load generator: orders at a constant rate, and a ledger the platform cannot write."""
