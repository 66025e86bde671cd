"""How anything printed looks, every format once; knows no run."""
