"""Programs under test: how ``--driver`` names a build, and how it is started, stopped and checked."""
