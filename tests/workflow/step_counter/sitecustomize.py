"""On the PYTHONPATH of a workflow: each step that a trainer trains becomes a line `run process step` of $STEP_COUNTS.

A run is called by the path of its loss curve. The file watches from outside: the library's files, and so the bytes of
the results, stay as they are.
"""

import os
import sys
from importlib.machinery import PathFinder


def counted(train):
    def counting_train(trainer, store, about, save_every, outputs, *arguments):
        counts = os.open(os.environ["STEP_COUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        advance = trainer.advance

        def counting_advance():
            advance()
            os.write(counts, f"{outputs['training']} {os.getpid()} {trainer.step}\n".encode())

        trainer.advance = counting_advance
        train(trainer, store, about, save_every, outputs, *arguments)

    return counting_train


class RunsFinder:
    """Finds `abrupt.training.resuming` when it is imported, with its `train` wrapped."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "abrupt.training.resuming":
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def execute_and_wrap(module):
            execute(module)
            module.train = counted(module.train)

        spec.loader.exec_module = execute_and_wrap
        return spec


sys.meta_path.insert(0, RunsFinder)
