"""The verdict for people and machines: one document, and three renderings of it."""
