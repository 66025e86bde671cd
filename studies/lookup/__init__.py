"""Names that commands give become objects: tables, rows, profiles, corpora, results folders and the view of them."""

from studies.lookup.corpora import corpus_for, corpus_name, known_manifest, manifest_of, may_stand_for
from studies.lookup.profiles import LIMITS, PROFILES, Profile, fixed_options, profile_of, recorded_profile
from studies.lookup.reading import held, held_view, in_range, is_of, results_root, stored_results, view_for
from studies.lookup.rows import pick_rows, table_spec, with_own
from studies.lookup.view import DEFAULT_VIEW, View, options_of, set_words

__all__ = [
    "DEFAULT_VIEW",
    "LIMITS",
    "PROFILES",
    "Profile",
    "View",
    "corpus_for",
    "corpus_name",
    "fixed_options",
    "held",
    "held_view",
    "in_range",
    "is_of",
    "known_manifest",
    "manifest_of",
    "may_stand_for",
    "options_of",
    "pick_rows",
    "profile_of",
    "recorded_profile",
    "results_root",
    "set_words",
    "stored_results",
    "table_spec",
    "view_for",
    "with_own",
]
