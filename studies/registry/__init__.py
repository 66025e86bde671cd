"""What can run: the list of models, their options, their code, and how they are built."""

from studies.registry.build import build_model, check_buildable, unserved_because
from studies.registry.code import another_version, changed_code, other_source, source_of
from studies.registry.models import (
    MODELS,
    Entry,
    literal,
    model_module,
    own_files,
    path_of,
    register,
    source_file,
    source_tree,
)
from studies.registry.options import option_names, resolve, search_space, unread

__all__ = [
    "MODELS",
    "Entry",
    "another_version",
    "build_model",
    "changed_code",
    "check_buildable",
    "literal",
    "model_module",
    "option_names",
    "other_source",
    "own_files",
    "path_of",
    "register",
    "resolve",
    "search_space",
    "source_file",
    "source_of",
    "source_tree",
    "unread",
    "unserved_because",
]
