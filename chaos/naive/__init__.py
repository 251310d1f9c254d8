"""Cures taken out, one module each, to show that a test without them goes red. Lab only."""
