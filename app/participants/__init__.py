"""Handlers of participants that more than one role runs."""
