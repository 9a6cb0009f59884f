"""What the book computes for its moving parts: the network and the runtime, packed small; facts to compare with; the walk of the first page."""
import base64
import hashlib
import inspect
import json
import lzma
import sys
from pathlib import Path

import numpy as np
import torch

from ddpm_lesson.data import to_pixels
from ddpm_lesson.engine.files import atomic_write
from ddpm_lesson.guidance import Labelled
from ddpm_lesson.pretrained import load_card, load_pretrained, weights_path
from ddpm_lesson.sampler import ddim_sample, ddim_steps

sys.path.insert(0, str(Path(__file__).resolve().parent))
import site_trim
from export_onnx import difference, export

TOOLS = Path(__file__).resolve().parent
FIRST = dict(y=9, seed=0, sampler='ddim', steps=20, eta=0, scale=1)  # what the live page shows at first, and compares with PyTorch
NETWORKS = {'network': 'fashion', 'fast': 'fashion-fast'}                # files of the live page: the weights they hold
BATCHES = 1, 2, 8, 16, 1                                              # one picture or eight, asked once or, with guidance, twice
WALKERS, COLUMNS, STEPS = 24, 8, 20                                   # the garments of the first page, and their steps


# The network

def as_half(weight):
    "A float32 weight as float16 if that loses nothing, else None."
    from onnx import numpy_helper
    values = numpy_helper.to_array(weight)
    if values.dtype != np.float32: return None
    with np.errstate(over='ignore'): half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None


def halve(path):
    "Store the weights of an ONNX file in float16 where they are float16 numbers anyway; a Cast gives float32 back. What the exporter notes goes."
    import onnx
    from onnx import helper, numpy_helper
    model, casts = onnx.load(path), []
    for node in model.graph.node: node.ClearField('metadata_props')
    del model.graph.value_info[:]
    for weight in model.graph.initializer:
        if (half := as_half(weight)) is None: continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f'{name}_half'))
        casts.append(helper.make_node('Cast', [f'{name}_half'], [name], to=onnx.TensorProto.FLOAT))
    begin_with(model.graph, casts)
    onnx.save(model, path)


def begin_with(graph, first):
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def onnx_file(folder, name='fashion'):
    "A network of the live page; made anew only when weights, exporter or PyTorch change."
    makers = b''.join(p.read_bytes() for p in (weights_path(name), TOOLS/'export_onnx.py')) + (inspect.getsource(halve) + inspect.getsource(begin_with)).encode()
    path = folder/f'{name}-{hashlib.sha256(makers + torch.__version__.encode()).hexdigest()[:16]}.onnx'
    if not path.exists():
        export(name, path)
        halve(path)
        if (off := difference(name, path)) > 1e-4:
            path.unlink()
            raise SystemExit(f'the exported network differs from the model by {off}')
    return path


# The runtime

def start(path):
    "A network that does nothing: to load it starts the runtime."
    import onnx
    from onnx import TensorProto, helper
    a, b = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in 'ab')
    graph = helper.make_graph([helper.make_node('Identity', ['a'], ['b'])], 'start', [a], [b])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10), path)
    return path


def zeroed(path, network):
    "A network with zeros for weights, made where it runs: it is small, and can rehearse while the real weights are on their way."
    import onnx
    from onnx import helper, numpy_helper
    model = onnx.load(network)
    weights = [w for w in model.graph.initializer if w.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) and w.dims]
    zeros = []
    for weight in weights:
        model.graph.initializer.remove(weight)
        shape, zero = np.array(weight.dims), np.zeros(1, helper.tensor_dtype_to_np_dtype(weight.data_type))
        model.graph.initializer.append(numpy_helper.from_array(shape, f'{weight.name}_shape'))
        zeros.append(helper.make_node('ConstantOfShape', [f'{weight.name}_shape'], [weight.name], value=numpy_helper.from_array(zero)))
    begin_with(model.graph, zeros)
    onnx.save(model, path)
    return path


def runtime_file(runtime, build):
    "The program that runs the networks, without what they never use; made anew when it, they or this tool change."
    program, script = runtime/'dist'/'ort-wasm-simd-threaded.wasm', runtime/'dist'/'ort.wasm.bundle.min.mjs'
    networks = [onnx_file(build, name) for name in NETWORKS.values()]
    networks = [start(build/'start.onnx'), zeroed(build/'zeros.onnx', networks[0]), *networks]
    makers = [program, script, *networks, TOOLS/'site_trim.py', TOOLS/'trim.mjs']
    path = build/f'runtime-{hashlib.sha256(b"".join(p.read_bytes() for p in makers)).hexdigest()[:16]}.wasm'
    if not path.exists():
        whole = program.read_bytes()
        kept = site_trim.reached(whole, site_trim.ran(whole, script, networks, BATCHES, build))
        with atomic_write(path) as p: p.write_bytes(site_trim.trimmed(whole, kept))
    return path


# Packing. Even bytes, then odd ones: the high halves of float16 numbers resemble one another, the low halves nothing.

def packed(data, shuffle=False):
    "The bytes as xz, which is a third smaller than gzip for a program; packed.mjs undoes it, whatever the server makes of them."
    return lzma.compress(data[0::2] + data[1::2] if shuffle else data, check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)


def packed_file(path, build, shuffle=False):
    "A file packed, once for each content: it takes half a minute."
    data = path.read_bytes()
    kept = build/f'{path.stem}-{hashlib.sha256(data + inspect.getsource(packed).encode()).hexdigest()[:16]}.xz'
    if not kept.exists():
        with atomic_write(kept) as p: p.write_bytes(packed(data, shuffle))
    return kept.read_bytes()


def as_module(script):
    "A script written for older loaders, as a module that exports what it made."
    return f'const exports = {{}}, module = {{exports}}, require = () => globalThis;\n{script}\nexport const {{XzReadableStream}} = module.exports;\n'


# Facts

def reference(model, sched, shape):
    "The pixels of the live page's first garment, by PyTorch."
    x_0 = ddim_sample(Labelled(model, torch.tensor([FIRST['y']])), sched, (1, *shape), steps=FIRST['steps'], eta=float(FIRST['eta']), clip=(-1, 1), seeds=[FIRST['seed']])
    return to_pixels(x_0).flatten().tolist()


def stage_live(folder, build, runtime, unpacker):
    "Networks, runtime and facts for the live page, below `folder`; how many bytes come before the first garment."
    folder.mkdir(parents=True)
    for file, name in NETWORKS.items(): (folder/f'{file}.bin').write_bytes(packed_file(onnx_file(build, name), build, shuffle=True))
    (folder/'zeros.bin').write_bytes(packed_file(zeroed(build/'zeros.onnx', onnx_file(build)), build))
    (folder/'runtime.bin').write_bytes(packed_file(runtime_file(runtime, build), build))
    (folder/'whole.bin').write_bytes(packed_file(runtime/'dist'/'ort-wasm-simd-threaded.wasm', build))
    (folder/'ort.mjs').write_bytes((runtime/'dist'/'ort.wasm.bundle.min.mjs').read_bytes())
    (folder/'xz.mjs').write_text(as_module((unpacker/'dist'/'package'/'xz-decompress.min.js').read_text(encoding='utf-8')), encoding='utf-8')
    (model, sched), card = load_pretrained('fashion'), load_card('fashion')
    shape = (card['network']['channels'], card['size'], card['size'])
    sizes = {name: (folder/f'{name}.bin').stat().st_size for name in (*NETWORKS, 'zeros', 'runtime', 'whole')}
    version = lambda file: hashlib.sha256((folder/file).read_bytes()).hexdigest()[:12]
    versions = {name: version(f'{name}.bin') for name in sizes} | {name: version(f'{name}.mjs') for name in ('ort', 'xz')}
    facts = dict(T=sched.T, alpha_bar=sched.alpha_bar.tolist(), shape=shape, classes=card['classes'], first=FIRST, networks=NETWORKS, start=base64.b64encode((build/'start.onnx').read_bytes()).decode(), bytes=sizes, versions=versions, pixels=reference(model, sched, shape))
    (folder/'facts.json').write_text(json.dumps(facts), encoding='utf-8')
    return sizes['network'] + sizes['zeros'] + sizes['runtime']


# The first page

def tiled(pixels):
    "(N, 1, 28, 28) bytes as one picture, COLUMNS across."
    return pixels[:, 0].unflatten(0, (-1, COLUMNS)).transpose(1, 2).flatten(2).flatten(0, 1)


def answers():
    "What the network guesses at each step of one walk of many garments: [(WALKERS, 1, 28, 28) bytes], and the pictures at the end."
    model, sched = load_pretrained('fashion')
    asked = Labelled(model, torch.arange(WALKERS) % 10)
    walk = list(ddim_steps(asked, sched, (WALKERS, 1, 28, 28), steps=STEPS, clip=(-1, 1), seeds=range(WALKERS)))
    return [to_pixels(x_0_hat) for _, _, x_0_hat in walk[:-1]], to_pixels(walk[-1][1])


def card_picture(still):
    "The finished garments in the size that chats and search engines show: 1200 by 630."
    from PIL import Image
    card, width = Image.new('L', (1200, 630)), 1120
    height = width*still.height//still.width
    card.paste(still.resize((width, height), Image.Resampling.NEAREST), (40, (630 - height)//2))
    return card


def stage_first(static):
    "The recorded answers below one another, lossy; the last picture; the card. hero.mjs walks with them."
    from PIL import Image
    guesses, last = answers()
    picture = lambda pixels: Image.fromarray(pixels.numpy())
    picture(torch.cat([tiled(g) for g in guesses])).save(static/'hero.webp', quality=70, method=6)
    still = picture(tiled(last))
    still.save(static/'hero.png', optimize=True)
    card_picture(still).save(static/'card.png', optimize=True)
