"""From specs to records: what runs a list of specs, here or on a cluster."""
