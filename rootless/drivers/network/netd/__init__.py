"""The network service of a realm: bridges, addresses, names, the way out and published ports.

One process per realm, started by the first container that needs it and gone when none does.  Its main
thread lives in the host's network namespace and runs the event loop; one further thread lives in the realm's
and makes sockets there.  A socket belongs to the namespace of the thread that made it, and any thread may
use it afterwards, so that everything else happens in the loop.

    loop        the event loop: descriptors, timers, calls from other threads
    realm       the thread in the realm's namespace
    dns         names for containers: answers what is known, forwards what is not; its parts:
    dnswire       messages (pure); dns_sockets, dns_tcp: how they come; upstream, nameservers: where they go
"""
