"""Faults from outside the workers: started, proved, ended by lease, recorded, and timed.

`chaos.nemesis.engine.Nemesis` is the interface, `chaos.nemesis.faults` holds the faults, and
docs/faults.md lists them.
"""
