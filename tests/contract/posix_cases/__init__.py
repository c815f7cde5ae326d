"""How a POSIX tree behaves, as some hundred small checks; see harness.py for what a check is."""
