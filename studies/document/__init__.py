"""How anything printed looks, every format once: blocks, and a writer each for text, Markdown, LaTeX and HTML.

Nothing here knows of runs, tables of the paper or claims: those rooms say what is to be read, as blocks.
"""
