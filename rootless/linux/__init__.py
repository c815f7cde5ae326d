"""1:1 access to the kernel: /proc, processes, system calls, and the probes that fill HostFacts."""
