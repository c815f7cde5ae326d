"""Settings and where things live."""
