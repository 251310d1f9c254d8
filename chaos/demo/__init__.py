"""`symphony demo`: orders, kills in the middle, and an audit, told to a newcomer."""
