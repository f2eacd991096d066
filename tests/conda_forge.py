"""How conda-forge calls what PyPI calls otherwise: the one table, for every test of the conda environments."""

PYPI_NAMES = {
    "cvxpy-base": "cvxpy",
    "matplotlib-base": "matplotlib",
    "pytorch": "torch",
    "seaborn-base": "seaborn",
}
