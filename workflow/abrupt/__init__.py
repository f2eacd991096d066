"""Abrupt learning in transformers on matrix completion: the library behind the workflow's scripts."""
