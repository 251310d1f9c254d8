"""Sinks: where notifications go. A sink is a third party: it may fail, and may have taken it."""
