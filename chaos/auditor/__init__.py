"""The auditor: proves from books that were kept independently whether anything was lost or doubled.

It runs as a process of its own and imports nothing of the platform: own SQL, own decoders, another
Kafka client. What it compares are the ledgers of the load generator, of the payment gateway and of
the nemesis, one snapshot of PostgreSQL, and whole topics. It writes nothing but barriers.
"""
