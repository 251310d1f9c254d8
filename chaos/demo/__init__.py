"""`symphony demo`: orders, kills in the middle, and a reconciliation, told to a newcomer."""
