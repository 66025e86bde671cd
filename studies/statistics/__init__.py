"""Numbers from numbers; knows no store."""
