"""Denoising diffusion, derived and tested."""
import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec

__version__ = "0.1.0"

_MOVED = {   # where modules were before version 0.2, and where they are
    'files': 'engine.files', 'safety': 'engine.safety', 'scale': 'engine.distributed', 'presets': 'engine.presets',
    'published': 'engine.published', 'graphs': 'engine.graphs', 'muon': 'engine.muon', 'exercises': 'exam.grade',
    'questions': 'exam.questions', 'museum': 'exam.museum', 'symptoms': 'exam.symptoms',
}


class _Moved:
    "Imports a module under its old name, with a warning: it is the module at its new place."
    def find_spec(self, name, path=None, target=None):
        package, _, old = name.partition('.')
        return ModuleSpec(name, self) if package == __name__ and old in _MOVED else None

    def create_module(self, spec):
        new = f'{__name__}.{_MOVED[spec.name.partition(".")[2]]}'
        warnings.warn(f'{spec.name} is now {new}; the old name goes with the next version', DeprecationWarning, stacklevel=2)
        module = import_module(new)
        self.kept = module.__spec__
        return module

    def exec_module(self, module): module.__spec__ = self.kept   # the import system had put the old one there


sys.meta_path.insert(0, _Moved())
