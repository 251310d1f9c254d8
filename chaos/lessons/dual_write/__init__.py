"""Lesson "dual write": a database and a log written one after the other drift apart.

Lost event: the order is stored, its event never published. Phantom event: the event is published,
its order never stored. With the outbox neither happens.
"""
