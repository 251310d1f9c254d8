"""The payment gateway simulator: a third party with its own HTTP API and its own ledger.

It shares no code with the platform, so that its ledger is evidence the platform cannot write.
"""
