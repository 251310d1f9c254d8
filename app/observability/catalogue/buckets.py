"""Upper bounds of histograms.

Every SLO's threshold is one of its histogram's bounds, and so is the threshold of every alert on a
quantile: between two bounds a quantile is a guess.
"""

SECONDS_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10)
SECONDS_LONG = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)
SECONDS_WAITED = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
