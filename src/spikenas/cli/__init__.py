"""The command line: one verb per public function. A verb imports what it needs when it is called."""

from spikenas.cli.main import app, main

__all__ = ["app", "main"]
