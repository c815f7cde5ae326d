"""Dockerfiles: text to typed instructions, stages and a graph of steps, cache keys, files to copy.

The front end (source, lexer, words, instructions, parser, checks, outline, ignore) is pure: text in, values
out.  tree.py and worker.py read and write files; nothing here knows containers or prints.
"""
