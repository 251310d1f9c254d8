"""Faults of the laboratory: the first delivery of some messages fails, so they come late.

Each module is a plug-in of a lab. A message that is held back climbs to the retry tier like any
event that fails once, and comes back when the tier is due: after what was sent later.
"""
