"""Lessons: a failure provoked on real servers, looked at, mended, and the proof."""
