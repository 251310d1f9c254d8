"""The pure heart: decisions as functions of what is stored, what arrived and what time it is.

Nothing here reads a clock, makes a random number, awaits, logs or touches a server. The same
arguments always give the same decision, which is what makes a repeated batch harmless and what
lets tests and the simulation run the whole platform without a broker.
"""
