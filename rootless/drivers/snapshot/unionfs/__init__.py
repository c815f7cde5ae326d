"""Our own union filesystem: the server of the ``fusepy`` storage driver.

Started by the launcher beside a container, as root of the realm (``fusepy.py`` plans it):

    server      arguments, start, what is said in the log
    binding     libfuse through fusepy or mfusepy: structures, replies, the loop
    operations  names and attributes: one handler per request of the kernel
    fileio      the same for open files and listings
    tree        layers, nodes and how a name is found in them
    nodes       what the kernel knows of: one node per inode of the merged tree
    readers     descriptors for reading, shared
    listing     directories, merged and streamed
    copyup      bringing what is about to change into the upper layer
    edit        making, removing, renaming, linking
    marks       whiteouts and opaque directories, in two formats
    work        where things are made before they appear
    owners      users and groups shown otherwise than on disk
    quota       how much the upper layer may hold
    calls       the few system calls that Python's os lacks

One thread does everything, so that between two replies nothing moves; nobody else writes to the upper
layer, so that the kernel may keep what it was told.
"""
