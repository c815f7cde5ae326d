"""Use cases: the only code that combines store, drivers, registry and runtime."""
