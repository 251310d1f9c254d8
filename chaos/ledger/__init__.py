"""Rebalance ledger: numbered events, effects in a ledger, faults in between, a count at the end.

It proves from evidence the workers cannot write (the broker's group log, whole topics, the load
producer's acknowledgements) whether a delivery core lost, held back or doubled an event. It says
nothing about business rules: those have an auditor of their own.
"""
