"""Pure planning: request + image config + host facts -> OCI runtime spec -> launch plan -> tape."""
