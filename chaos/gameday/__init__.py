"""GameDays: experiments under load, guarded, rolled back, audited and reported."""
