"""One module a figure: `tidy(...)` makes the table that is plotted, `draw(table, ...)` plots it and nothing else.

Where `observed` in workflow/figures.yaml is true, `observe(table, task)` says in words what it shows
(`abrupt.figures.observation.Observation`): wherever no claim rests on the figure, or claims do not say it all.
"""
