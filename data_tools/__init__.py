"""Programs that make or change data sets."""
