"""The command line: Docker-compatible verbs, one file each; the only package that prints and exits."""
