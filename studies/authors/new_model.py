"""`bench new model NAME`: a model's file to begin with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from hycon.errors import UserError
from studies.registry import MODELS


def new_model(name: str, folder: str | Path = ".") -> Path:
    """Write NAME.py, a small model that works, into an existing folder. Raises UserError, with nothing written, for a
    name that no model can have, and where there is a file of that name already."""
    name = name.removesuffix(".py")
    if not name.isidentifier() or not name.isascii() or name.startswith("_"):
        raise UserError(f"A model cannot be called {name!r}; expected letters, digits and _, beginning with a letter.")
    if name in MODELS and not MODELS[name].file:
        raise UserError(f"This suite has a model {name} already: choose another name.")
    file = Path(folder).expanduser() / f"{name}.py"
    text = resources.files("studies.authors").joinpath("template.py").read_text(encoding="utf-8")
    try:
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(text.replace("NAME", name, 1).replace("THIS_FILE", str(file)))
    except FileExistsError as error:
        raise UserError(f"{file} is there already, and is left as it is: choose another name or folder.") from error
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror or error}.") from error
    return file
