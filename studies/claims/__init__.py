"""The sentences of the paper, judged by runs or by the paper's own tables."""

from studies.claims.by_paper import against_paper
from studies.claims.by_runs import evaluate
from studies.claims.file import claims_file, load_claims, pick

__all__ = ["against_paper", "claims_file", "evaluate", "load_claims", "pick"]
