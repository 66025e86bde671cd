"""Claims on made-up runs: of rows that do not differ nothing is found, and a large gain is."""

from benchmarks.claim_errors import claims_of_table4, rates


def test_rows_that_do_not_differ_decide_no_claim_and_a_large_gain_does():
    plain = [claim.id for claim in claims_of_table4() if claim.kind not in ("great", "slight")]
    none, large = rates(0.0, 20), rates(3.0, 20)
    assert sum(none[name]["supported"] + none[name]["contradicted"] for name in plain) <= 1
    assert large["ablation-contrast"]["supported"] >= 19
    assert large["ablation-contrast-great"]["supported"] >= 15
