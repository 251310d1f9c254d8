"""Campaigns: seeded random faults over all roles under load, audited after every run."""
