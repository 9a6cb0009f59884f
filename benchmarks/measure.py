"Times of several programs, taken in turns, so that what slows the machine slows them all; where their tables and pictures go."
import argparse
import os
import platform
import random
import statistics
import time

import torch

from ddpm_lesson.engine.files import full_path
from ddpm_lesson.terminal import check_output


def own_table(heading):
    "For argparse: a place for a table with these words in its heading; a file of others there is refused before any work."
    def place(text):
        try: check_output(path := full_path(text), [heading.encode()], 'the table')
        except (ValueError, OSError) as e: raise argparse.ArgumentTypeError(str(e)) from e
        return path
    return place


def beside(path):
    "The path, or the next name that is free: nothing that is there is replaced."
    path = full_path(path)
    while os.path.lexists(path): path = path.with_stem(f'{path.stem}-again')
    return path


def synchronise(device):
    "Wait until the device has done what it was asked to."
    if device == 'cuda': torch.cuda.synchronize()
    if device == 'mps': torch.mps.synchronize()


def seconds(f, device, clock=time.perf_counter):
    synchronise(device)
    began = clock()
    f()
    synchronise(device)
    return clock() - began


def in_turns(programs, rounds, device, clock=time.perf_counter):
    "name -> a time a round; every round runs each program once, in an order drawn by lot, after one round to warm up."
    times, order = {name: [] for name in programs}, list(programs)
    for f in programs.values(): f()
    for _ in range(rounds):
        random.shuffle(order)
        for name in order: times[name].append(seconds(programs[name], device, clock))
    return times


def middle(values):
    "Median, and the quarter and three-quarter points."
    low, median, high = statistics.quantiles(values, n=4)
    return dict(median=median, low=low, high=high)


def where(device):
    "What a time was measured on."
    name = torch.cuda.get_device_name() if device == 'cuda' else f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}'
    return dict(device=name, threads=torch.get_num_threads(), cores=os.cpu_count(), torch=torch.__version__, python=platform.python_version())
