"""The control plane of a swarm, as pure functions and small state machines: no socket, no process, no clock of its own."""
