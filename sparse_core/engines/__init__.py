"""Engines that compile and run a backbone: one file an engine, one interface, the choice between them by measurement.
Imports networks and the ground. Only ``availability`` and ``machine`` load without torch."""
