"""Whether results can be relied on: trained again, compared, checked, carried elsewhere."""
