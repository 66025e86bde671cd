"""From runs to filled tables."""
