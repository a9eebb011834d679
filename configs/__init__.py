"""Settings of runs, as plain values; an argument after a colon chooses a variant."""
