"""Many runs: search, run store, executors, tables, and the `bench` command."""
