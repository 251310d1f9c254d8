"""Rules that are changed while workers run: published, acknowledged, taken back."""
