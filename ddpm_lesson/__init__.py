"""Denoising diffusion, derived and tested: the functions of a course in notebooks.

    import torch
    from ddpm_lesson import Labelled, ddim_sample, load_pretrained
    model, sched = load_pretrained('fashion')                      # or 'flowers', or a file or folder of yours
    shoes = Labelled(model, torch.full((16,), 7))                  # sneakers; or leave it out
    images = ddim_sample(shoes, sched, (16, 1, 28, 28), steps=50, clip=(-1, 1), seeds=range(16))

A model is anything called as `eps_hat = model(x_t, t)`: x_t is (B, ...), t is (B,) int64 in 1..T, the answer has the shape of x_t.
What does not fit raises a ValueError or TypeError that says what was wanted and what came.

    schedules     Schedule, linear_schedule, cosine_schedule           lessons 2 and 3
    samplers      ddpm_sample, ddim_sample                             lessons 6 and 7
    images        Images, load_images, bundled_fashion                 lesson 1
    training      train_on, draw_from, Recipe, fit                     lesson 10
    models        load_pretrained, load_card, save_model               lesson 10
    networks      UNet, DiT                                            lessons 8 and 20
    labels        Labelled, Guided                                     lesson 13

In modules of their own: `solvers` (dpm_solver_sample, heun_sample), `few_steps` (consistency_sample, distill_loss),
`edit` (sdedit, inpaint_guided), `likelihood` (elbo_terms, ode_log_likelihood), `dialects` (from_diffusers, to_diffusers,
options_of), `audit` (audit a sampler of yours).

`help(ddpm_lesson.ddim_sample)` says what each argument means, and what it raises. On the command line: `ddpm_lesson sample`,
`ddpm_lesson lessons`, `ddpm_lesson --help`.
"""
import ast
import linecache
import re
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pkgutil import iter_modules
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {   # what a user calls -> the module it lives in, imported when it is first asked for
    'Schedule': 'schedule', 'linear_schedule': 'schedule', 'cosine_schedule': 'schedule',
    'ddpm_sample': 'sampler', 'ddim_sample': 'sampler', 'Labelled': 'guidance', 'Guided': 'guidance',
    'Images': 'data', 'load_images': 'data', 'bundled_fashion': 'data', 'Recipe': 'train', 'fit': 'train',
    'UNet': 'unet', 'DiT': 'dit', 'train_on': 'own', 'draw_from': 'own', 'load_pretrained': 'pretrained', 'load_card': 'pretrained', 'save_model': 'pretrained',
}
_MOVED = {   # where modules were, and where they are
    'files': 'engine.files', 'safety': 'engine.safety', 'scale': 'engine.distributed', 'presets': 'engine.presets',
    'published': 'engine.published', 'graphs': 'engine.graphs', 'muon': 'engine.muon', 'exercises': 'exam.grade',
    'questions': 'exam.grade', 'museum': 'exam.museum', 'symptoms': 'exam.symptoms',
}
__all__ = list(_HOME)

if TYPE_CHECKING:   # what editors and type checkers read: they would not see through `__getattr__`
    from .data import Images as Images, bundled_fashion as bundled_fashion, load_images as load_images
    from .dit import DiT as DiT
    from .guidance import Guided as Guided, Labelled as Labelled
    from .own import draw_from as draw_from, train_on as train_on
    from .pretrained import load_card as load_card, load_pretrained as load_pretrained, save_model as save_model
    from .sampler import ddim_sample as ddim_sample, ddpm_sample as ddpm_sample
    from .schedule import Schedule as Schedule, cosine_schedule as cosine_schedule, linear_schedule as linear_schedule
    from .train import Recipe as Recipe, fit as fit
    from .unet import UNet as UNet
else:
    def __getattr__(name):
        if name not in _HOME: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        return getattr(import_module(f'{__name__}.{_HOME[name]}'), name)


def __dir__(): return sorted([*_HOME, '__doc__', '__version__', *(m.name for m in iter_modules(__path__) if m.name[0] != '_')])


def _header(thing, written):
    "The lines of a function's signature; of a class, those of its `__init__` or, where that is made for it, its fields."
    while hasattr(thing, '__wrapped__'): thing = thing.__wrapped__
    code = getattr(thing.__init__ if isinstance(thing, type) else thing, '__code__', None)
    if code and code.co_filename != '<string>': return linecache.getlines(code.co_filename)[code.co_firstlineno - 1:]
    fields = re.sub(r'^    ("""|").*?\1$', '', written.partition('\n')[2], count=1, flags=re.M | re.S).strip()
    return fields.splitlines() if hasattr(thing, '__dataclass_fields__') else []


def _arguments(thing, written):
    "What the comments beside the arguments of a function, or the fields of a class, say: (names, meaning) each."
    for line in _header(thing, written):
        head, comment = re.fullmatch(r'((?:[^#\'"]|\'[^\']*\'|"[^"]*")*)(?:#\s*(.*))?\s*', line.rstrip()).groups()
        names = re.findall(r'(?:^|,)\s*\*{0,2}(\w+)\s*(?=[:=,]|$)', re.sub(r'^\s*def \w+\((self,?)?', '', head))
        if comment: yield 'returns' if head.startswith(')') else ', '.join(names), comment
        if not head.strip() or re.search(r'\)\s*(->.*)?:\s*$', head): return


def _call(lines):
    "The call with which these lines begin, or None."
    for n in range(1, len(lines) + 1):
        with suppress(SyntaxError): return ast.parse(re.sub(r'\) from \w+', ')', '\n'.join(lines[:n]))).body[0].value


def _errors(written):
    "What a definition raises in lines of its own: kind -> what was wanted, `{x}` where a value is put in."
    kinds = {}
    for begin in re.finditer(r'\braise (?:\w+ or )?((?:\w+\.)?[A-Z]\w+)', written):
        given = [ast.unparse(a) for a in getattr(_call(written[begin.start(1):].splitlines()), 'args', [])]
        text = next((a.lstrip('f')[1:-1] for a in given if re.match('f?[\'"]', a)), '')
        said = re.sub(r'(!r)?(:\.\d+\w?)?}', '}', re.split(r'[,;:]? \(?(?:and )?(?:got |\{e\})', text)[0])
        kinds.setdefault(begin[1], {})[said if re.search('[a-z]{3}', re.sub(r'{.*?}', '', said)) else ''] = None
    return {f'raises {kind}': '; '.join(filter(None, said)) for kind, said in kinds.items()}


def _document(module, source):
    "Add to every docstring of a module what its comments say of the arguments, and what it raises, so that `help` shows both."
    written = {found[1]: found[0] for found in re.finditer(r'^(?:def|class) (\w+).*(?:\n(?:[ \t)].*)?)*', source, re.M)}
    for name, thing in list(vars(module).items()):
        if getattr(thing, '__module__', None) != module.__name__ or not getattr(thing, '__doc__', None): continue
        said = [*_arguments(thing, code := written.get(name, '')), *_errors(code).items()]
        if said: thing.__doc__ += '\n\n' + '\n'.join(f'    {names}: {meaning}'.rstrip(' :') for names, meaning in said)


class _Documented(SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        _document(module, self.get_source(module.__name__))


class _Finder:
    "Finds the modules of this package; one asked for by its old name is the module at its new place, with a warning."
    def find_spec(self, name, path=None, target=None):
        package, _, rest = name.partition('.')
        if package != __name__: return None
        if rest in _MOVED: return ModuleSpec(name, self)
        spec = PathFinder.find_spec(name, path)
        if spec and type(spec.loader) is SourceFileLoader: spec.loader = _Documented(spec.loader.name, spec.loader.path)
        return spec

    def create_module(self, spec):
        new = f'{__name__}.{_MOVED[spec.name.partition(".")[2]]}'
        warnings.warn(f'{spec.name} is now {new}; the old name goes with the next version', DeprecationWarning, stacklevel=2)
        module = import_module(new)
        self.kept = module.__spec__
        return module

    def exec_module(self, module): module.__spec__ = self.kept   # the import system had put the old one there


sys.meta_path.insert(0, _Finder())
