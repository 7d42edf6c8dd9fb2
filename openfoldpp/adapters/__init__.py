"""Hook implementations that come with the package, one plugin a file."""
