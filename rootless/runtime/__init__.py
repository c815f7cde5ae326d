"""Running containers: the realm, the launcher's monitor, and terminals attached to it."""
