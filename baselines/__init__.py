"""The paper's baselines: one file per method, the same contract as hycon/model.py."""
