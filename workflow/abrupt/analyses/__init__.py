"""One module an experiment: a pure function from model, task and batch to a tidy table."""
