"""The runtime of the live page without what our networks never use: a small view of a WebAssembly file, as far as that needs.

A copy of the program that notes which functions run is run by tools/trim.mjs on each network, in each size of batch that the live page
asks for. What ran stays, and all that it can call by name; any other function becomes one that stops the program. Should the live page
ever come to such a stop, it fetches the whole program. The format: https://webassembly.github.io/spec/core/binary/.
"""
import json
import subprocess
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
HEAD = b'\0asm\1\0\0\0'
IMPORT, GLOBAL, EXPORT, CODE = 2, 6, 7, 10  # kinds of section
STOP = b'\0\0\x0b'                          # a function without locals: unreachable, end


def leb(n):
    "A whole number as WebAssembly writes it: seven bits a byte, the lowest first."
    return bytes([n & 127 | 128]) + leb(n >> 7) if n > 127 else bytes([n])


def number(data, at):
    "Such a number, and where it ends."
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1


def sections(wasm):
    "A program's sections: {kind: content}. One that names things, which a program can do without, is left out."
    if not wasm.startswith(HEAD): raise SystemExit('wanted a WebAssembly program')
    found, at = {}, len(HEAD)
    while at < len(wasm):
        size, start = number(wasm, at + 1)
        if wasm[at]: found[wasm[at]] = wasm[start:start + size]
        at = start + size
    return found


def program(parts): return HEAD + b''.join(bytes([kind]) + leb(len(content)) + content for kind, content in parts.items())


def bodies(code):
    "The functions of a code section, each without its length."
    count, at = number(code, 0)
    found = []
    for _ in range(count):
        size, at = number(code, at)
        found.append(code[at:at + size])
        at += size
    return found


def listed(items): return leb(len(items)) + b''.join(items)
def with_code(parts, functions): return program(parts | {CODE: listed([leb(len(f)) + f for f in functions])})


def longer(vector, items):
    "A section that is a list, with more items at its end."
    count, start = number(vector, 0)
    return leb(count + len(items)) + vector[start:] + b''.join(items)


# Watching

def noting(wasm):
    "The program, each of whose functions sets a global of its own to 1: f0, f1, ... among the exports."
    parts = sections(wasm)
    functions, first = bodies(parts[CODE]), number(parts[GLOBAL], 0)[0]
    ids = range(first, first + len(functions))
    names = [f'f{k}'.encode() for k in range(len(functions))]
    more = {
        GLOBAL: longer(parts[GLOBAL], [b'\x7f\1\x41\0\x0b']*len(functions)),  # i32, mutable, at first 0
        EXPORT: longer(parts[EXPORT], [leb(len(name)) + name + b'\3' + leb(k) for name, k in zip(names, ids)]),
    }
    return with_code(parts | more, [begun(f, b'\x41\1\x24' + leb(k)) for f, k in zip(functions, ids)])


def instructions(function):
    "Where they begin: after the locals."
    groups, at = number(function, 0)
    for _ in range(groups): at = number(function, at)[1] + 1
    return at


def begun(function, first): return function[:(at := instructions(function))] + first + function[at:]


# Calls by name. What follows an instruction: how many numbers, and how many bytes after them.

PLAIN = {  # first byte of an instruction: (numbers, bytes)
    **dict.fromkeys([*range(0x02, 0x07), 0x07, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x12, 0x18, *range(0x20, 0x27), 0x41, 0x42, 0xd0, 0xd2], (1, 0)), 0x05: (0, 0),
    **dict.fromkeys([0x11, 0x13, *range(0x28, 0x3f)], (2, 0)), 0x3f: (0, 1), 0x40: (0, 1), 0x43: (0, 4), 0x44: (0, 8),
}
BULK = dict(zip(range(8, 18), [(2, 0), (1, 0), (2, 0), (1, 0), (2, 0), (1, 0), (2, 0), (1, 0), (1, 0), (1, 0)]))              # after 0xfc
VECTOR = {**dict.fromkeys([*range(12), 92, 93], (2, 0)), 12: (0, 16), 13: (0, 16), **dict.fromkeys(range(21, 35), (0, 1)), **dict.fromkeys(range(84, 92), (2, 1))}  # 0xfd
ATOMIC = {**dict.fromkeys([0, 1, 2, *range(16, 79)], (2, 0)), 3: (0, 1)}                                                       # 0xfe
MORE = {0xfc: BULK, 0xfd: VECTOR, 0xfe: ATOMIC}
CALLS, LISTS, BR_TABLE, END = (0x10, 0x12, 0xd2), (0x0e, 0x1c), 0x0e, 0x0b


def called(function):
    "The functions that a function calls by name, or takes the address of; numbered as the program does, imported ones first."
    at, found = instructions(function), set()
    while at < len(function):
        code, at = function[at], at + 1
        numbers, rest = PLAIN.get(code, (0, 0))
        if code in LISTS: numbers, at = number(function, at)
        if code == BR_TABLE: numbers += 1
        if code in MORE:
            kind, at = number(function, at)
            numbers, rest = MORE[code].get(kind, (0, 0))
        for _ in range(numbers):
            value, at = number(function, at)
            if code in CALLS: found.add(value)
        at += rest
    if at != len(function) or function[-1] != END: raise SystemExit('the program has an instruction that tools/site_trim.py does not know')
    return found


def imported(imports):
    "How many functions a program imports."
    count, at = number(imports, 0)
    functions = 0
    for _ in range(count):
        for _ in 'module', 'name':
            length, at = number(imports, at)
            at += length
        kind, at = imports[at], at + 1
        functions += kind == 0
        if kind == 1: at += 1                                           # what a table holds
        limits = 2 + (imports[at] & 1) if kind in (1, 2) else 1         # at least, perhaps at most
        for _ in range(limits): at = number(imports, at)[1]
        if kind == 3: at += 1                                           # may a global change
    return functions


def reached(wasm, first):
    "The functions that ran, and all that they can call by name."
    parts = sections(wasm)
    functions, before = bodies(parts[CODE]), imported(parts[IMPORT])
    found, new = set(), set(first)
    while new:
        found |= new
        new = {k - before for f in new for k in called(functions[f]) if k >= before} - found
    return found


def trimmed(wasm, kept):
    "The program with only the functions `kept`, by number; each other one stops it."
    parts = sections(wasm)
    return with_code(parts, [f if k in kept else STOP for k, f in enumerate(bodies(parts[CODE]))])


def ran(wasm, runtime, networks, batches, folder):
    "The numbers of the functions that run when these ONNX files are loaded, and asked in these sizes of batch."
    watched = folder/'noting.wasm'
    watched.write_bytes(noting(wasm))
    arguments = runtime.as_uri(), watched, json.dumps(batches), *networks
    run = subprocess.run(['node', TOOLS/'trim.mjs', *arguments], capture_output=True, encoding='utf-8')
    watched.unlink()
    if run.returncode: raise SystemExit(run.stderr[-2000:])
    return set(json.loads(run.stdout))
