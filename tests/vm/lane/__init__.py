"""The VM lane, host side: builds a guest's disk, boots it under emulation, and reads what its steps report.

    guest    what a directory below guests/ says: packages, machine, steps
    image    the guest's disk, cached by a hash of its recipe
    media    a second, read-only disk of this run: the checkout, wheels, container images, steps
    machine  one emulator process and the watch over it
    report   the lines the guest writes, and what is missing from them

It imports nothing of the package it tests, and only the standard library.
"""
