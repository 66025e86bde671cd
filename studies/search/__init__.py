"""From a row to specs, and to a winner."""
