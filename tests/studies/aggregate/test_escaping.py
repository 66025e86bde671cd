"""Whatever a name, a note or an error message holds, no format takes it for markup."""

import dataclasses
import html.parser
import re
import shutil
import subprocess

import pytest
from small_table import LMF, RESULT, ROWS

from studies.aggregate.render import FORMATS, render
from studies.document.words import visible

HOSTILE = "</table><script>x</script> & % _ { } \\ ^ ~ # $ \x1b[31m \r\n 中 é ＆ \" ' | ` *"


def hostile():
    row = dataclasses.replace(ROWS[4], row=dataclasses.replace(LMF, name=HOSTILE), reason=HOSTILE)
    return dataclasses.replace(RESULT, rows=(ROWS[0], row), notes=(HOSTILE,))


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("result", [RESULT, hostile()])
def test_html_is_balanced_self_contained_and_escaped(result):
    page = render(result, "html")
    tags = _Tags()
    tags.feed(page)
    assert not tags.open
    assert tags.seen.count("tr") == len(result.rows) + 1
    assert "script" not in tags.seen
    assert "http" not in page


@pytest.mark.parametrize("format", FORMATS)
def test_no_control_character_reaches_a_terminal(format):
    assert "\x1b" not in render(hostile(), format)


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"json"}))  # JSON is escaped where it is printed
def test_none_is_in_the_heading_of_an_emotion(format):
    name = "\x1b]0;owned\x07 a\u202eb\x9b31m\uffff"
    column = dataclasses.replace(RESULT.table.columns[0], heading=name)
    table = dataclasses.replace(RESULT.table, columns=(column, *RESULT.table.columns[1:]))
    found = render(dataclasses.replace(RESULT, table=table), format)
    assert visible(found) == found


def test_markdown_rows_keep_their_number_of_cells():
    table = [line for line in render(hostile(), "md").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {7}


@pytest.mark.parametrize("result", [RESULT, hostile()])
def test_latex_is_ascii_balanced_and_has_no_bare_special(result):
    found = render(result, "latex")
    assert found.isascii()
    bare = re.sub(r"\\[&%$#_{}]", "", found)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    body = bare[bare.index("\\midrule") : bare.index("\\bottomrule")]
    assert {line.count("&") for line in body.splitlines()[1:]} == {5}
    assert not re.search("[%#~]", re.sub(r"%( needs.*)?$", "", bare, flags=re.M))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
@pytest.mark.parametrize("result", [RESULT, hostile()])
@pytest.mark.parametrize("way", ["within", "input"])
def test_latex_compiles_as_it_is(tmp_path, result, way):
    (tmp_path / "table.tex").write_text(render(result, "latex"))
    body = "\\input{table}" if way == "input" else render(result, "latex")
    preamble = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "main.tex").write_text(f"{preamble}{body}\\end{{document}}\n")
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]
