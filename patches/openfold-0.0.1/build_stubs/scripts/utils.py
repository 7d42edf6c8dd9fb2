"""Stands in for OpenFold's ``scripts.utils`` while pip reads the sdist's metadata."""


def get_nvidia_cc() -> tuple[None, str]:
    """Return no compute capability: nothing is compiled."""
    return None, "not asked"
