"""What people look at: the report of a run, charts and contact sheets."""
