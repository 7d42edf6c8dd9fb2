"""Stands in for torch while pip reads the sdist's metadata: nothing is compiled."""
