"""Distribution client: who we are to a registry, how we reach it, and its bytes, verified.  Slow to import."""
