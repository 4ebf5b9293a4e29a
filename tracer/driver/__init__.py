"""Drivers, the programs under test: how ``--driver`` names a build, and how to start, stop and
check it."""
