"""What the orchestrator does with a batch, beneath its agent: sagas moved, their outputs emitted.

Called inside the one transaction of a step. It decides nothing itself (`app.domain` does), and
sends and acknowledges nothing (`app.delivery` does).
"""
