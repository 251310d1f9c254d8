"""The first reconciliation: an independent reader compares what four parties have written.

It imports nothing of the platform: own SQL, own topic reader, own decoding. What it compares are
the ledger of the load generator, PostgreSQL, the topics, and the ledger of the payment gateway.
"""
