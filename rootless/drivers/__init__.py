"""What varies by host: one package per family, each with its base, a registry and one file per driver."""
