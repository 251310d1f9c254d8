"""The platform in one process on virtual time: real decisions, real core, servers in memory.

What runs is production code: every role's `register` and handler, the step of the delivery core,
its ticks, watermark and epochs, the relay, the gateway's client and the database facade. Replaced
are only the edges (docs/adr/0009): event loop, PostgreSQL connection, Kafka transport, HTTP
session. A run is a function of its plan: the same plan gives the same trace, whatever the machine.
"""
