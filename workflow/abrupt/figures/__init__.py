"""One module a figure: `tidy(...)` makes the table that is plotted, `draw(table, ...)` plots it and nothing else."""
