"""The catalogue of GameDays: one Chaos Toolkit file each (docs/gameday.md)."""
